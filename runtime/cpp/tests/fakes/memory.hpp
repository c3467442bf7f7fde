// Memory of the fake GPU, and pinned memory of the host.
//
// Addresses of the GPU are in a range that the host cannot access: a process that tries crashes. The contents are
// stored elsewhere (see `contents`). An address is never used twice, so that uses of freed memory are always detected.
#pragma once

#include <cstddef>
#include <string>

#include "journal.hpp"

namespace fake {

// Word that fills new and freed memory: NaN as a float, and too large as an index.
constexpr unsigned poison = 0x7FC0DEAD;

enum class Kind { device, host };

// Return new memory, or null if the GPU has too little.
void* allocate(Kind kind, std::size_t bytes);
void release_pinned(Id id);

// Memory of the GPU is freed in two steps. mark_freed takes effect at once: work that is queued later must not use it.
// release_freed runs when the stream has done the work that was queued before.
bool is_begin(const void* address);  // whether memory begins at this address; false is a fault
void mark_freed(Id id);
void release_freed(Id id);

// Use of an object by a call: the object's number, and whether the call changes it.
struct Use {
    Id id;
    bool writes;
};

// Return the use of `bytes` bytes at an address. If the memory does not contain all of them: the Id 0, and a fault that
// names `what`.
Use use(Kind kind, const void* address, std::size_t bytes, bool writes, const std::string& what);

// Return the contents of GPU memory at an address.
std::byte* contents(const void* address);

// Return whether memory has a word that was never written.
bool has_poison(const void* address, std::size_t bytes);

// Set the size of the GPU's memory; 0 is unlimited. The pool keeps freed memory until it is trimmed.
void limit_memory(std::size_t bytes);
void trim_pool();
std::size_t memory_in_use();
std::size_t kept_memory();  // memory of the pool, in use or not, and memory outside of it

// Take or return memory outside of the pool, as contexts do. take_outside returns false if there is too little.
bool take_outside(std::size_t bytes);
void give_outside(std::size_t bytes);

}  // namespace fake
