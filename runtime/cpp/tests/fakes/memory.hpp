// The memory of a GPU that is not there, and pinned memory of the host.
//
// Addresses of the GPU are in a range that the host cannot read: whoever tries ends the process. What the GPU has there
// lies elsewhere (`contents`). An address is never used a second time, so that freed memory is known for good.
#pragma once

#include <cstddef>
#include <string>

#include "journal.hpp"

namespace fake {

// New and freed memory is full of these words: not a number as any float, and too large for any index.
constexpr unsigned poison = 0x7FC0DEAD;

enum class Kind { device, host };

// Null where there is no such memory.
void* allocate(Kind kind, std::size_t bytes);
void release_pinned(Id id);

// Memory of the GPU is freed in two steps: at once, so that what a stream is given from then on may not use it; and
// when the stream comes to it, after what it was given before.
bool is_begin(const void* address);  // a fault where it is not
void mark_freed(Id id);
void release_freed(Id id);

// What a call uses: the object, by its number, and whether it changes it.
struct Use {
    Id id;
    bool writes;
};

// Memory at an address, of which `bytes` are used. Where it is not all there: a fault that names `what`, and no Id (0).
Use use(Kind kind, const void* address, std::size_t bytes, bool writes, const std::string& what);

std::byte* contents(const void* address);

// Whether memory has four bytes in a row that nobody wrote.
bool has_poison(const void* address, std::size_t bytes);

// How much memory the GPU has, 0 is without end; the pool keeps what was freed until it is trimmed.
void limit_memory(std::size_t bytes);
void trim_pool();
std::size_t memory_in_use();
std::size_t kept_memory();  // with all that is in use

// Memory that others than the pool take, such as contexts; false where there is too little.
bool take_outside(std::size_t bytes);
void give_outside(std::size_t bytes);

}  // namespace fake
