// Fakes of the CUDA runtime functions that the library calls.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "kernel.hpp"
#include "streams.hpp"

uint3 blockIdx, threadIdx;
dim3 blockDim, gridDim;

namespace {

using fake::Id;
using fake::Kind;
using fake::Operation;
using fake::Use;
using word = std::uint32_t;

using Lock = std::lock_guard<std::recursive_mutex>;
constexpr int devices = 2;
const char* const name_of_pool = "memory pool";

thread_local cudaError_t last_error = cudaSuccess;

cudaError_t result(bool is_good, cudaError_t error = cudaErrorInvalidValue) {
    if (is_good) return cudaSuccess;
    return last_error = error;
}

Id id_of(const void* handle) { return reinterpret_cast<Id>(handle); }

template <class Handle>
cudaError_t make(const char* call, Handle* handle, Id (*create)()) {
    const Lock lock(fake::mutex);
    if (fake::fails(call)) return result(false, cudaErrorUnknown);
    fake::expect_first_device(call);
    *handle = reinterpret_cast<Handle>(create());
    return cudaSuccess;
}

// Destroy an object. It is destroyed even if the call fails: CUDA may report an earlier failure here.
cudaError_t destroy(const char* call, const void* handle, bool (*end)(Id)) {
    const Lock lock(fake::mutex);
    const bool fails = fake::fails(call);
    const bool is_good = end(id_of(handle));
    return fails ? result(false, cudaErrorUnknown) : result(is_good);
}

// Describe a copy to the GPU. The host must not change the source until the copy is done.
Operation upload(void* to, const void* from, std::size_t bytes) {
    const auto* values = static_cast<const std::byte*>(from);
    const Use source = fake::use(Kind::host, from, bytes, false, "the source of a copy to the GPU");
    const Use target = fake::use(Kind::device, to, bytes, true, "the target of a copy to the GPU");
    std::vector<std::byte> given;
    if (source.id) given.assign(values, values + bytes);
    return {"a copy to the GPU", {source, target}, [=] {
                if (!fake::is_alive(source.id)) return;  // this fault was already reported
                if (std::memcmp(given.data(), from, bytes)) fake::report("the host changed a copy's source too early");
                std::memcpy(fake::contents(to), from, bytes);
            }};
}

Operation download(void* to, const void* from, std::size_t bytes) {
    const Use source = fake::use(Kind::device, from, bytes, false, "the source of a copy to the host");
    const Use target = fake::use(Kind::host, to, bytes, true, "the target of a copy to the host");
    return {"a copy to the host", {source, target}, [=] {
                if (fake::is_alive(target.id)) std::memcpy(to, fake::contents(from), bytes);
            }};
}

Operation copy(void* to, const void* from, std::size_t bytes) {
    const Use source = fake::use(Kind::device, from, bytes, false, "the source of a copy on the GPU");
    const Use target = fake::use(Kind::device, to, bytes, true, "the target of a copy on the GPU");
    if (source.id && source.id == target.id) fake::report("a copy on the GPU has the same memory as source and target");
    return {"a copy on the GPU", {source, target}, [=] {
                std::memcpy(fake::contents(to), fake::contents(from), bytes);
            }};
}

// The arguments of the only kernel.
struct DrawNoise {
    using Kernel = void (*)(float*, const word*, word, word, word, word, word, word, word, word, word, float);

    DrawNoise(const void* function, void** given)
        : kernel(reinterpret_cast<Kernel>(const_cast<void*>(function))),
          z(*static_cast<float**>(given[0])),
          places(*static_cast<const word**>(given[1])),
          temperature(*static_cast<float*>(given[11])) {
        for (int k = 0; k < 9; ++k) words[k] = *static_cast<word*>(given[2 + k]);
    }

    void run(dim3 blocks, dim3 threads) const {
        auto* normals = reinterpret_cast<float*>(fake::contents(z));
        const auto* rows = reinterpret_cast<const word*>(fake::contents(places));
        gridDim = blocks;
        blockDim = threads;
        for (blockIdx.x = 0; blockIdx.x < blocks.x; ++blockIdx.x) {
            for (threadIdx.x = 0; threadIdx.x < threads.x; ++threadIdx.x) {
                kernel(normals, rows, words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7],
                       words[8], temperature);
            }
        }
    }

    std::size_t values() const { return std::size_t{words[0]} * words[1] * words[2] * words[3]; }

    Kernel kernel;
    float* z;
    const word* places;
    word words[9];
    float temperature;
};

}  // namespace

extern "C" {

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

const char* cudaGetErrorString(cudaError_t error) {
    if (error == cudaErrorMemoryAllocation) return "fake CUDA: out of memory";
    return error == cudaErrorUnknown ? "fake CUDA: this call was chosen to fail" : "fake CUDA: wrong use";
}

cudaError_t cudaGetDeviceCount(int* count) {
    *count = devices;
    return result(!fake::fails("cudaGetDeviceCount"), cudaErrorUnknown);
}

// These two functions never fail here. With a real GPU, all later calls would fail too.
cudaError_t cudaGetDevice(int* device) {
    *device = fake::current_device();
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= devices) return result(false, cudaErrorInvalidDevice);
    fake::set_current_device(device);
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    if (fake::fails("cudaGetDeviceProperties")) return result(false, cudaErrorUnknown);
    *properties = {};
    std::strcpy(properties->name, device == 0 ? "Fake GPU" : "GPU of the application");
    properties->major = 9;
    return cudaSuccess;
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* kind) {
    const bool is_ours = kind->allocType == cudaMemAllocationTypePinned && kind->location.id == 0 &&
                         kind->location.type == cudaMemLocationTypeDevice;
    if (!is_ours) return result(false);
    return make("cudaMemPoolCreate", pool, [] { return fake::begin_life(name_of_pool); });
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr, void*) {
    if (fake::fails("cudaMemPoolSetAttribute")) return result(false, cudaErrorUnknown);
    return result(fake::is_alive(id_of(pool)));
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, std::size_t) {
    const Lock lock(fake::mutex);
    if (fake::fails("cudaMemPoolTrimTo")) return result(false, cudaErrorUnknown);
    fake::trim_pool();
    return result(fake::is_alive(id_of(pool)));
}

cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
    return destroy("cudaMemPoolDestroy", pool, [](Id id) {
        if (fake::memory_in_use()) fake::report("a memory pool is destroyed before its memory is freed");
        fake::trim_pool();
        return fake::end_life(id, name_of_pool);
    });
}

cudaError_t cudaMallocFromPoolAsync(void** address, std::size_t bytes, cudaMemPool_t pool, cudaStream_t stream) {
    const Lock lock(fake::mutex);
    if (fake::fails("cudaMallocFromPoolAsync")) return result(false, cudaErrorMemoryAllocation);
    fake::expect_first_device("cudaMallocFromPoolAsync");
    if (!fake::is_alive(id_of(pool)) || !fake::is_stream(id_of(stream))) return result(false);
    void* allocated = fake::allocate(Kind::device, bytes);
    if (!allocated) return result(false, cudaErrorMemoryAllocation);
    *address = allocated;
    return result(fake::give(id_of(stream), {"an allocation", {{id_of(allocated), true}}, [] {}}));
}

cudaError_t cudaFreeAsync(void* address, cudaStream_t stream) {
    const Lock lock(fake::mutex);
    const bool fails = fake::fails("cudaFreeAsync");
    if (!fake::is_begin(address)) return result(false);
    const Id id = id_of(address);
    const bool given = fake::give(id_of(stream), {"a release", {{id, true}}, [id] { fake::release_freed(id); }});
    fake::mark_freed(id);
    return fails ? result(false, cudaErrorUnknown) : result(given);
}

cudaError_t cudaMallocHost(void** address, std::size_t bytes) {
    const Lock lock(fake::mutex);
    if (fake::fails("cudaMallocHost")) return result(false, cudaErrorMemoryAllocation);
    fake::expect_first_device("cudaMallocHost");
    *address = fake::allocate(Kind::host, bytes);
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void* address) {
    const Lock lock(fake::mutex);
    if (!address) return cudaSuccess;
    const bool fails = fake::fails("cudaFreeHost");
    if (fake::is_awaited(id_of(address))) fake::report("pinned memory is freed before a copy of it is done");
    fake::release_pinned(id_of(address));
    return result(!fails, cudaErrorUnknown);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    const Lock lock(fake::mutex);
    if (fake::fails("cudaMemcpyAsync")) return result(false, cudaErrorUnknown);
    auto* describe = kind == cudaMemcpyHostToDevice ? upload : kind == cudaMemcpyDeviceToHost ? download : copy;
    return result(fake::give(id_of(stream), describe(to, from, bytes)));
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
    if (flags != cudaStreamNonBlocking) fake::report("a stream is created that waits for the default stream");
    return make("cudaStreamCreateWithFlags", stream, fake::create_stream);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    return destroy("cudaStreamDestroy", stream, fake::destroy_stream);
}

// Waits even if the call fails: CUDA may report an earlier failure here.
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    const Lock lock(fake::mutex);
    const bool fails = fake::fails("cudaStreamSynchronize");
    const bool is_good = fake::synchronize(id_of(stream));
    return fails ? result(false, cudaErrorUnknown) : result(is_good);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    return make("cudaEventCreateWithFlags", event, fake::create_event);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) { return destroy("cudaEventDestroy", event, fake::destroy_event); }

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    const Lock lock(fake::mutex);
    if (fake::fails("cudaEventRecord")) return result(false, cudaErrorUnknown);
    return result(fake::record_event(id_of(event), id_of(stream)));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    const Lock lock(fake::mutex);
    if (fake::fails("cudaStreamWaitEvent")) return result(false, cudaErrorUnknown);
    return result(fake::wait_for_event(id_of(stream), id_of(event)));
}

cudaError_t cudaLaunchKernel(const void* function, dim3 blocks, dim3 threads, void** arguments, std::size_t,
                             cudaStream_t stream) {
    const Lock lock(fake::mutex);
    if (fake::fails("cudaLaunchKernel")) return result(false, cudaErrorUnknown);
    fake::expect_first_device("cudaLaunchKernel");
    if (blocks.x == 0 || threads.x == 0 || threads.x > 1024) return result(false, cudaErrorInvalidConfiguration);
    const DrawNoise noise(function, arguments);
    const Use z = fake::use(Kind::device, noise.z, noise.values() * sizeof(float), true, "the noise");
    const Use places =
        fake::use(Kind::device, noise.places, noise.words[0] * 3 * sizeof(word), false, "the positions of the noise");
    return result(fake::give(id_of(stream), {"the noise", {z, places}, [=] { noise.run(blocks, threads); }}));
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    const Lock lock(fake::mutex);
    if (fake::fails("cudaStreamBeginCapture")) return result(false, cudaErrorUnknown);
    return result(fake::begin_capture(id_of(stream)), cudaErrorIllegalState);
}

// A failed capture has ended as well.
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    const Lock lock(fake::mutex);
    if (fake::fails("cudaStreamEndCapture")) fake::spoil_capture(id_of(stream));
    *graph = reinterpret_cast<cudaGraph_t>(fake::end_capture(id_of(stream)));
    return result(*graph != nullptr, cudaErrorUnknown);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return destroy("cudaGraphDestroy", graph, fake::destroy_graph); }

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* instance, cudaGraph_t graph, unsigned long long) {
    const Lock lock(fake::mutex);
    if (fake::fails("cudaGraphInstantiate")) return result(false, cudaErrorUnknown);
    *instance = reinterpret_cast<cudaGraphExec_t>(fake::instantiate(id_of(graph)));
    return result(*instance != nullptr);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t instance) {
    return destroy("cudaGraphExecDestroy", instance, fake::destroy_instance);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t instance, cudaStream_t stream) {
    const Lock lock(fake::mutex);
    if (fake::fails("cudaGraphLaunch")) return result(false, cudaErrorUnknown);
    fake::expect_first_device("cudaGraphLaunch");
    return result(fake::launch(id_of(instance), id_of(stream)));
}

}  // extern "C"
