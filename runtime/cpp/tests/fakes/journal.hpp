// State that the fakes of CUDA and TensorRT share: the detected faults (wrong uses), the living objects, and the calls
// that a test chose to fail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace fake {

// Every call of a fake holds this mutex. Work that a GPU would run at the same time runs one after the other here.
extern std::recursive_mutex mutex;

// Record a fault; return all recorded faults and clear them. Tests expect no faults.
void report(const std::string& fault);
std::vector<std::string> take_faults();

// Living objects (handles of CUDA, memory, objects of TensorRT) by number. A number is never used twice.
using Id = std::uintptr_t;
Id begin_life(const std::string& kind);
void begin_life(Id id, const std::string& kind);  // with a number that the caller chooses
bool is_alive(Id id);
bool end_life(Id id, const std::string& kind);  // false, and a fault, if no such object is alive
std::vector<std::string> alive();               // kinds of all living objects

// Count a call by its name and return whether it must fail. Every call that can fail uses this.
bool fails(const std::string& call);
std::size_t calls();  // number of calls since the last call of one of the next four functions
void fail_none();
void fail_call(std::size_t number);     // the first call is 1
void fail_all_from(std::size_t number);  // as if the GPU was lost
void fail_all_of(const std::string& call);
std::string failed_call();               // name of the first call that failed; empty if none failed
std::size_t calls_of(const std::string& call);

// Current GPU of the calling thread. The library uses 0; the application in the tests uses 1.
int current_device();
void set_current_device(int device);
void expect_first_device(const std::string& call);

}  // namespace fake
