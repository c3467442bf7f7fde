#include "memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <new>
#include <vector>

namespace fake {

namespace {

constexpr std::size_t page = 4096, range = std::size_t{1} << 38;

std::uintptr_t reserve() {
    void* begin = mmap(nullptr, range, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (begin == MAP_FAILED) throw std::bad_alloc();
    return reinterpret_cast<std::uintptr_t>(begin);
}

struct Block {
    std::size_t bytes;
    std::vector<std::byte> contents;  // of GPU memory; pinned memory is at its address
    bool is_freed = false;            // freed, but a stream has not reached the release yet
};

struct Memory {
    std::uintptr_t next = reserve();
    std::map<std::uintptr_t, Block> device, host;  // by address
    std::size_t limit = 0, in_use = 0, kept = 0, outside = 0;
};

Memory& memory() {
    static Memory& memory = *new Memory();  // never destroyed: other static objects may use it at the end
    return memory;
}

const char* name_of(Kind kind) { return kind == Kind::device ? "memory of the GPU" : "pinned memory"; }

std::map<std::uintptr_t, Block>& blocks(Kind kind) { return kind == Kind::device ? memory().device : memory().host; }

void fill(void* begin, std::size_t bytes) {
    for (std::size_t k = 0; k < bytes; ++k) {
        static_cast<unsigned char*>(begin)[k] = static_cast<unsigned char>(poison >> 8 * (k % sizeof poison));
    }
}

// Return the block that contains an address.
std::map<std::uintptr_t, Block>::iterator find(Kind kind, std::uintptr_t address) {
    auto& all = blocks(kind);
    auto found = all.upper_bound(address);
    if (found == all.begin()) return all.end();
    --found;
    return address <= found->first + found->second.bytes ? found : all.end();
}

}  // namespace

void* allocate(Kind kind, std::size_t bytes) {
    Memory& all = memory();
    if (kind == Kind::device) {
        const std::size_t kept = std::max(all.kept, all.in_use + bytes);
        if (all.limit && kept + all.outside > all.limit) return nullptr;
        all.in_use += bytes;
        all.kept = kept;
    }
    Block block{bytes, std::vector<std::byte>(bytes)};
    std::uintptr_t address = all.next;
    if (kind == Kind::host) {
        address = reinterpret_cast<std::uintptr_t>(::operator new(bytes));
        fill(reinterpret_cast<void*>(address), bytes);
    } else {
        fill(block.contents.data(), bytes);
        all.next += (bytes / page + 2) * page;  // blocks never touch each other
        if (all.next > address + range) throw std::bad_alloc();
    }
    blocks(kind).emplace(address, std::move(block));
    begin_life(address, name_of(kind));
    return reinterpret_cast<void*>(address);
}

void release_pinned(Id id) {
    if (!end_life(id, name_of(Kind::host))) return;
    fill(reinterpret_cast<void*>(id), memory().host.at(id).bytes);
    ::operator delete(reinterpret_cast<void*>(id));
    memory().host.erase(id);
}

Use use(Kind kind, const void* address, std::size_t bytes, bool writes, const std::string& what) {
    const auto number = reinterpret_cast<std::uintptr_t>(address);
    const auto found = find(kind, number);
    if (found == blocks(kind).end()) {
        report(what + " is not in " + name_of(kind) + ", or in memory that was freed");
        return {0, writes};
    }
    const auto& [begin, block] = *found;
    if (block.is_freed) {
        report(what + " is in memory that was freed");
        return {0, writes};
    }
    if (number + bytes > begin + block.bytes) {
        report(what + " has " + std::to_string(bytes) + " bytes, but the memory there has " +
               std::to_string(begin + block.bytes - number));
        return {0, writes};
    }
    return {begin, writes};
}

bool is_begin(const void* address) {
    const auto found = memory().device.find(reinterpret_cast<std::uintptr_t>(address));
    if (found != memory().device.end() && !found->second.is_freed) return true;
    report("memory of the GPU is freed for the second time, or does not exist");
    return false;
}

void mark_freed(Id id) {
    Block& block = memory().device.at(id);
    block.is_freed = true;
    memory().in_use -= block.bytes;
    end_life(id, name_of(Kind::device));
}

void release_freed(Id id) { memory().device.erase(id); }

std::byte* contents(const void* address) {
    const auto number = reinterpret_cast<std::uintptr_t>(address);
    const auto found = find(Kind::device, number);
    return found->second.contents.data() + (number - found->first);
}

bool has_poison(const void* address, std::size_t bytes) {
    const std::byte* begin = contents(address);
    for (std::size_t k = 0; k + sizeof poison <= bytes; k += sizeof poison) {
        if (!std::memcmp(begin + k, &poison, sizeof poison)) return true;
    }
    return false;
}

void limit_memory(std::size_t bytes) { memory().limit = bytes; }

void trim_pool() { memory().kept = memory().in_use; }

std::size_t memory_in_use() { return memory().in_use; }

std::size_t kept_memory() { return memory().kept + memory().outside; }

bool take_outside(std::size_t bytes) {
    Memory& all = memory();
    if (all.limit && all.kept + all.outside + bytes > all.limit) return false;
    all.outside += bytes;
    return true;
}

void give_outside(std::size_t bytes) { memory().outside -= bytes; }

}  // namespace fake
