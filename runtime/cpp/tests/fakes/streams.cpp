#include "streams.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <stdexcept>
#include <utility>

namespace fake {

namespace {

using Operations = std::vector<Operation>;
using Progress = std::map<Id, std::size_t>;  // number of operations of each stream

struct Capture {
    Operations operations;
    bool is_spoilt = false;
};

struct Stream {
    std::deque<Operation> waiting;
    std::size_t done = 0;
    Progress after;  // operations of other streams that are done before the next operation
    std::optional<Capture> capture;

    std::size_t given() const { return done + waiting.size(); }
};

struct Event {
    Progress after;  // empty if it was never recorded: nothing waits for it then
};

std::map<Id, Stream> streams;
std::map<Id, Event> events;
std::map<Id, Operations> graphs, instances;

template <class Object>
Object* find(std::map<Id, Object>& all, Id id, const char* kind) {
    const auto found = all.find(id);
    if (found != all.end()) return &found->second;
    report(std::string("a ") + kind + " is used that was destroyed, or does not exist");
    return nullptr;
}

template <class Object>
bool destroy(std::map<Id, Object>& all, Id id, const char* kind) {
    return end_life(id, kind) && all.erase(id);
}

void merge(Progress& into, const Progress& from) {
    for (const auto& [stream, count] : from) into[stream] = std::max(into[stream], count);
}

// Run the operations of a stream in order, until `count` operations of its lifetime are done.
void run_until(Id id, std::size_t count) {
    const auto found = streams.find(id);
    if (found == streams.end()) return;
    Stream& stream = found->second;
    while (stream.done < count && !stream.waiting.empty()) {
        Operation operation = std::move(stream.waiting.front());
        stream.waiting.pop_front();
        ++stream.done;
        try {
            operation.run();
        } catch (const std::exception& error) {
            report(operation.what + " fails on the GPU: " + error.what());
        }
    }
}

bool conflict(const Operation& one, const Operation& other) {
    return std::any_of(one.uses.begin(), one.uses.end(), [&](const Use& a) {
        return std::any_of(other.uses.begin(), other.uses.end(),
                           [&](const Use& b) { return a.id == b.id && (a.writes || b.writes); });
    });
}

bool is_usable(const Operation& operation) {
    return std::all_of(operation.uses.begin(), operation.uses.end(), [&](const Use& use) {
        if (use.id && is_alive(use.id)) return true;
        if (use.id) report(operation.what + " uses an object that no longer exists");  // 0 was reported before
        return false;
    });
}

void report_races(Id id, const Stream& stream, const Operation& operation) {
    for (const auto& [other_id, other] : streams) {
        if (other_id == id) continue;
        const auto known = stream.after.find(other_id);
        const std::size_t ordered = known == stream.after.end() ? 0 : known->second;
        for (std::size_t k = 0; k < other.waiting.size(); ++k) {
            if (other.done + k < ordered || !conflict(operation, other.waiting[k])) continue;
            report(operation.what + " may run before " + other.waiting[k].what + ", queued on another stream");
        }
    }
}

}  // namespace

Id create_stream() {
    const Id id = begin_life("stream");
    streams[id];
    return id;
}

bool destroy_stream(Id id) {
    if (streams.contains(id)) {
        if (streams[id].capture) report("a stream is destroyed while it is recorded");
        run_until(id, streams[id].given());
    }
    return destroy(streams, id, "stream");
}

bool is_stream(Id id) { return find(streams, id, "stream") != nullptr; }

bool is_capturing(Id id) {
    const auto found = streams.find(id);
    return found != streams.end() && found->second.capture;
}

bool give(Id id, Operation operation) {
    Stream* stream = find(streams, id, "stream");
    if (!stream || !is_usable(operation)) return false;
    if (stream->capture) {
        stream->capture->operations.push_back(std::move(operation));
        return true;
    }
    report_races(id, *stream, operation);
    stream->waiting.push_back(std::move(operation));
    return true;
}

bool synchronize(Id id) {
    Stream* stream = find(streams, id, "stream");
    if (!stream) return false;
    if (stream->capture) {
        report("a stream is waited for while it is recorded");
        spoil_capture(id);
        return false;
    }
    run_until(id, stream->given());
    return true;
}

bool is_awaited(Id id) {
    return std::any_of(streams.begin(), streams.end(), [&](const auto& stream) {
        return std::any_of(stream.second.waiting.begin(), stream.second.waiting.end(), [&](const Operation& one) {
            return std::any_of(one.uses.begin(), one.uses.end(), [&](const Use& use) { return use.id == id; });
        });
    });
}

Id create_event() {
    const Id id = begin_life("event");
    events[id];
    return id;
}

bool destroy_event(Id id) { return destroy(events, id, "event"); }

bool record_event(Id id, Id stream_id) {
    Event* event = find(events, id, "event");
    Stream* stream = find(streams, stream_id, "stream");
    if (!event || !stream) return false;
    event->after = stream->after;
    event->after[stream_id] = stream->given();
    return true;
}

bool wait_for_event(Id stream_id, Id id) {
    const Event* event = find(events, id, "event");
    Stream* stream = find(streams, stream_id, "stream");
    if (!event || !stream) return false;
    merge(stream->after, event->after);
    return give(stream_id, {"a wait for an event", {}, [after = event->after] {
                                for (const auto& [other, count] : after) run_until(other, count);
                            }});
}

bool begin_capture(Id id) {
    Stream* stream = find(streams, id, "stream");
    if (!stream || stream->capture) return false;
    stream->capture.emplace();
    return true;
}

void spoil_capture(Id id) {
    if (is_capturing(id)) streams[id].capture->is_spoilt = true;
}

Id end_capture(Id id) {
    Stream* stream = find(streams, id, "stream");
    if (!stream || !stream->capture) return 0;
    const Capture capture = *std::exchange(stream->capture, std::nullopt);
    if (capture.is_spoilt) return 0;
    const Id graph = begin_life("graph");
    graphs[graph] = capture.operations;
    return graph;
}

bool destroy_graph(Id id) { return destroy(graphs, id, "graph"); }

Id instantiate(Id id) {
    const Operations* graph = find(graphs, id, "graph");
    if (!graph) return 0;
    const Id instance = begin_life("instance of a graph");
    instances[instance] = *graph;
    return instance;
}

bool destroy_instance(Id id) { return destroy(instances, id, "instance of a graph"); }

bool launch(Id id, Id stream) {
    const Operations* recorded = find(instances, id, "instance of a graph");
    if (!recorded) return false;
    Operation whole{"a graph of", {}, {}};
    for (const Operation& one : *recorded) {
        whole.what += " " + one.what;
        whole.uses.insert(whole.uses.end(), one.uses.begin(), one.uses.end());
    }
    whole.run = [operations = *recorded] {
        for (const Operation& one : operations) one.run();
    };
    return give(stream, std::move(whole));
}

}  // namespace fake
