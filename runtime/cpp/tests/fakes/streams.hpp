// Streams, events and recorded graphs of the fake GPU.
//
// Work on a stream is done only when somebody waits for it, so a missing wait is always detected. If two streams use
// the same memory and one of them writes, an event or a wait must order them. Otherwise it is a fault, whatever the
// order in which they happen to run.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "memory.hpp"

namespace fake {

// Work for a stream.
struct Operation {
    std::string what;  // name for messages
    std::vector<Use> uses;
    std::function<void()> run;
};

Id create_stream();
bool destroy_stream(Id stream);  // queued work is still done
bool is_stream(Id stream);       // false is a fault
bool is_capturing(Id stream);

// Queue an operation on a stream, or record it. Returns false, with a fault, if the operation uses an object that no
// longer exists. A race is a fault, too.
bool give(Id stream, Operation operation);

// Wait for a stream. Returns false, with a fault, while the stream is recorded.
bool synchronize(Id stream);

// Return whether queued work still uses an object.
bool is_awaited(Id id);

Id create_event();
bool destroy_event(Id event);
bool record_event(Id event, Id stream);
bool wait_for_event(Id stream, Id event);

// Recorded graphs. end_capture and instantiate return 0 on failure.
bool begin_capture(Id stream);
void spoil_capture(Id stream);
Id end_capture(Id stream);
bool destroy_graph(Id graph);
Id instantiate(Id graph);
bool destroy_instance(Id instance);
bool launch(Id instance, Id stream);

}  // namespace fake
