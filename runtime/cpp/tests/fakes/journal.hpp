// What the fakes of CUDA and TensorRT share: the wrong uses that they saw, the objects that are alive, and the calls
// that a test makes fail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace fake {

// Every call of a fake holds it: what runs at the same time on a GPU runs one after the other here.
extern std::recursive_mutex mutex;

// Note a wrong use. Tests take what was noted, and expect nothing.
void report(const std::string& fault);
std::vector<std::string> take_faults();

// Objects by numbers, which are never used a second time: handles of CUDA, memory, objects of TensorRT.
using Id = std::uintptr_t;
Id begin_life(const std::string& kind);
void begin_life(Id id, const std::string& kind);  // with a number of the caller's
bool is_alive(Id id);
bool end_life(Id id, const std::string& kind);  // false, and a fault, where no such object is alive
std::vector<std::string> alive();               // the kind of each object

// Every call that can fail asks by its name whether it fails, which counts it.
bool fails(const std::string& call);
std::size_t calls();  // since the last of these:
void fail_none();
void fail_call(std::size_t number);     // the first one is 1
void fail_all_from(std::size_t number);  // as where a GPU is lost
std::string failed_call();               // the name of the first one that failed; empty where none did
std::size_t calls_of(const std::string& call);

// The GPU that the calling thread's calls go to. Ours is 0; an application in the tests uses 1.
int current_device();
void set_current_device(int device);
void expect_first_device(const std::string& call);

}  // namespace fake
