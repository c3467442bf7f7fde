#include "journal.hpp"

#include <map>
#include <utility>

namespace fake {

std::recursive_mutex mutex;

namespace {

std::vector<std::string> faults;
std::map<Id, std::string> living;
Id last_id = 0;

std::map<std::string, std::size_t> counts;
std::size_t count = 0, first_failing = 0;
bool all_after = false;
std::string failed, failing;

thread_local int device = 0;

}  // namespace

void report(const std::string& fault) {
    const std::lock_guard lock(mutex);
    faults.push_back(fault);
}

std::vector<std::string> take_faults() {
    const std::lock_guard lock(mutex);
    return std::exchange(faults, {});
}

Id begin_life(const std::string& kind) {
    const std::lock_guard lock(mutex);
    begin_life(++last_id, kind);
    return last_id;
}

void begin_life(Id id, const std::string& kind) {
    const std::lock_guard lock(mutex);
    living[id] = kind;
}

bool is_alive(Id id) {
    const std::lock_guard lock(mutex);
    return living.contains(id);
}

bool end_life(Id id, const std::string& kind) {
    const std::lock_guard lock(mutex);
    const auto found = living.find(id);
    if (found == living.end() || found->second != kind) {
        report("a " + kind + " is destroyed for the second time, or does not exist");
        return false;
    }
    living.erase(found);
    return true;
}

std::vector<std::string> alive() {
    const std::lock_guard lock(mutex);
    std::vector<std::string> kinds;
    for (const auto& [id, kind] : living) kinds.push_back(kind);
    return kinds;
}

bool fails(const std::string& call) {
    const std::lock_guard lock(mutex);
    ++counts[call];
    ++count;
    const bool is_number = first_failing && (all_after ? count >= first_failing : count == first_failing);
    const bool now = is_number || call == failing;
    if (now && failed.empty()) failed = call;
    return now;
}

std::size_t calls() {
    const std::lock_guard lock(mutex);
    return count;
}

void fail_none() { fail_call(0); }

void fail_call(std::size_t number) {
    const std::lock_guard lock(mutex);
    counts.clear();
    failed.clear();
    failing.clear();
    count = 0;
    first_failing = number;
    all_after = false;
}

void fail_all_from(std::size_t number) {
    const std::lock_guard lock(mutex);
    fail_call(number);
    all_after = true;
}

void fail_all_of(const std::string& call) {
    const std::lock_guard lock(mutex);
    fail_call(0);
    failing = call;
}

std::string failed_call() {
    const std::lock_guard lock(mutex);
    return failed;
}

std::size_t calls_of(const std::string& call) {
    const std::lock_guard lock(mutex);
    const auto found = counts.find(call);
    return found == counts.end() ? 0 : found->second;
}

int current_device() { return device; }

void set_current_device(int chosen) { device = chosen; }

void expect_first_device(const std::string& call) {
    if (device != 0) report(call + " is called while the thread's current GPU is the application's");
}

}  // namespace fake
