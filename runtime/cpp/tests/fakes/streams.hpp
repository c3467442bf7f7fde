// Streams, events and graphs of a GPU that is not there.
//
// What a stream is given is done when somebody waits for it, and no earlier: a missing wait shows. Two streams that use
// the same memory, one of them to write, must be ordered by an event or a wait, else it is a fault whatever the order
// in which they happen to run.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "memory.hpp"

namespace fake {

struct Operation {
    std::string what;
    std::vector<Use> uses;
    std::function<void()> run;
};

Id create_stream();
bool destroy_stream(Id stream);  // what it was given is still done
bool is_stream(Id stream);       // a fault where it is none
bool is_capturing(Id stream);

// Have it done, or recorded. False, and a fault, where it uses what is gone, or races.
bool give(Id stream, Operation operation);

// Wait. False, and a fault, while it is recorded.
bool synchronize(Id stream);

// Whether something that uses an object is still to be done.
bool is_awaited(Id id);

Id create_event();
bool destroy_event(Id event);
bool record_event(Id event, Id stream);
bool wait_for_event(Id stream, Id event);

// What is recorded: 0 where that failed.
bool begin_capture(Id stream);
void spoil_capture(Id stream);
Id end_capture(Id stream);
bool destroy_graph(Id graph);
Id instantiate(Id graph);
bool destroy_instance(Id instance);
bool launch(Id instance, Id stream);

}  // namespace fake
