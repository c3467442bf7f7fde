// Tests of the fakes themselves: they must detect each wrong use.
#include <cuda_runtime_api.h>
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "fakes/journal.hpp"
#include "fakes/memory.hpp"

namespace {

// Two streams, a memory pool, memory of the GPU and pinned memory.
class Gpu {
  public:
    Gpu() {
        fake::fail_none();
        fake::set_current_device(0);
        cudaMemPoolProps kind{};
        kind.allocType = cudaMemAllocationTypePinned;
        kind.location.type = cudaMemLocationTypeDevice;
        REQUIRE(cudaMemPoolCreate(&pool, &kind) == cudaSuccess);
        for (cudaStream_t* stream : {&one, &two}) {
            REQUIRE(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking) == cudaSuccess);
        }
        REQUIRE(cudaMallocHost(&host, bytes) == cudaSuccess);
        REQUIRE(cudaMallocFromPoolAsync(&device, bytes, pool, one) == cudaSuccess);
        REQUIRE(cudaStreamSynchronize(one) == cudaSuccess);
    }
    ~Gpu() {
        cudaFreeHost(host);
        if (device) cudaFreeAsync(device, one);
        cudaStreamSynchronize(one);
        for (const cudaStream_t stream : {one, two}) cudaStreamDestroy(stream);
        cudaMemPoolDestroy(pool);
        CHECK(fake::take_faults().empty());
        CHECK(fake::alive().empty());
    }

    cudaError_t up(cudaStream_t stream, std::size_t count = bytes) {
        return cudaMemcpyAsync(device, host, count, cudaMemcpyHostToDevice, stream);
    }
    cudaError_t down(cudaStream_t stream) {
        return cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream);
    }

    static constexpr std::size_t bytes = 100;
    cudaMemPool_t pool = nullptr;
    cudaStream_t one = nullptr, two = nullptr;
    void *host = nullptr, *device = nullptr;
};

void check_fault(const char* part) {
    const auto faults = fake::take_faults();
    REQUIRE(faults.size() == 1);
    CHECK_MESSAGE(faults[0].find(part) != std::string::npos, faults[0]);
}

}  // namespace

TEST_SUITE_BEGIN("fakes");

TEST_CASE("work is done only when somebody waits for it") {
    Gpu gpu;
    std::memset(gpu.host, 1, Gpu::bytes);
    CHECK(gpu.up(gpu.one) == cudaSuccess);
    CHECK(gpu.down(gpu.one) == cudaSuccess);
    CHECK(fake::has_poison(gpu.device, Gpu::bytes));
    CHECK(cudaStreamSynchronize(gpu.one) == cudaSuccess);
    CHECK_FALSE(fake::has_poison(gpu.device, Gpu::bytes));
    CHECK(static_cast<unsigned char*>(gpu.host)[Gpu::bytes - 1] == 1);
}

TEST_CASE("the host changes memory before its copy is done") {
    Gpu gpu;
    std::memset(gpu.host, 1, Gpu::bytes);
    gpu.up(gpu.one);
    std::memset(gpu.host, 2, Gpu::bytes);
    cudaStreamSynchronize(gpu.one);
    check_fault("the host changed");
}

TEST_CASE("two streams use the same memory without synchronization") {
    Gpu gpu;
    gpu.up(gpu.one);
    gpu.down(gpu.two);
    check_fault("may run before a copy to the GPU");
    cudaEvent_t event = nullptr;
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    cudaStreamSynchronize(gpu.two);
    cudaStreamSynchronize(gpu.one);
    gpu.up(gpu.one);
    cudaEventRecord(event, gpu.one);
    cudaStreamWaitEvent(gpu.two, event, 0);
    gpu.down(gpu.two);
    cudaStreamSynchronize(gpu.two);
    cudaEventDestroy(event);
}

TEST_CASE("memory that is too small, was freed, or does not belong to the GPU") {
    Gpu gpu;
    CHECK(gpu.up(gpu.one, Gpu::bytes + 1) != cudaSuccess);
    CHECK(fake::take_faults().size() == 2);  // one for the GPU's memory, one for the pinned memory
    CHECK(cudaMemcpyAsync(gpu.host, gpu.host, 1, cudaMemcpyHostToDevice, gpu.one) != cudaSuccess);
    check_fault("not in memory of the GPU");
    cudaFreeAsync(gpu.device, gpu.one);
    CHECK(gpu.down(gpu.one) != cudaSuccess);
    check_fault("in memory that was freed");
    CHECK(cudaFreeAsync(gpu.device, gpu.one) != cudaSuccess);
    check_fault("for the second time");
    gpu.device = nullptr;
}

TEST_CASE("pinned memory that is freed while it is copied") {
    Gpu gpu;
    gpu.down(gpu.one);
    cudaFreeHost(gpu.host);
    check_fault("pinned memory is freed");
    cudaStreamSynchronize(gpu.one);
    REQUIRE(cudaMallocHost(&gpu.host, Gpu::bytes) == cudaSuccess);
}

TEST_CASE("a graph is recorded without being run, and replayed; the objects it uses must still exist") {
    Gpu gpu;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t instance = nullptr;
    cudaStreamBeginCapture(gpu.two, cudaStreamCaptureModeRelaxed);
    CHECK(gpu.up(gpu.two) == cudaSuccess);
    CHECK(cudaStreamSynchronize(gpu.two) != cudaSuccess);
    check_fault("waited for while it is recorded");
    CHECK(cudaStreamEndCapture(gpu.two, &graph) != cudaSuccess);
    cudaStreamBeginCapture(gpu.two, cudaStreamCaptureModeRelaxed);
    gpu.up(gpu.two);
    REQUIRE(cudaStreamEndCapture(gpu.two, &graph) == cudaSuccess);
    REQUIRE(cudaGraphInstantiate(&instance, graph, 0) == cudaSuccess);
    cudaGraphDestroy(graph);
    cudaStreamSynchronize(gpu.two);
    CHECK(fake::has_poison(gpu.device, Gpu::bytes));
    cudaGraphLaunch(instance, gpu.one);
    cudaStreamSynchronize(gpu.one);
    cudaFreeAsync(gpu.device, gpu.one);
    gpu.device = nullptr;
    CHECK(cudaGraphLaunch(instance, gpu.one) != cudaSuccess);
    check_fault("uses an object that no longer exists");
    cudaGraphExecDestroy(instance);
    CHECK(cudaGraphExecDestroy(instance) != cudaSuccess);
    check_fault("for the second time");
}

TEST_CASE("calls for the application's GPU and objects that are never freed are detected") {
    Gpu gpu;
    cudaSetDevice(1);
    void* left = nullptr;
    cudaMallocFromPoolAsync(&left, 1, gpu.pool, gpu.one);
    check_fault("the application's");
    cudaSetDevice(0);
    CHECK(fake::alive().size() == 6);
    cudaFreeAsync(left, gpu.one);
    CHECK(fake::alive().size() == 5);
}

TEST_CASE("a call fails if its number was chosen") {
    Gpu gpu;
    fake::fail_call(2);
    CHECK(cudaStreamSynchronize(gpu.one) == cudaSuccess);
    CHECK(cudaStreamSynchronize(gpu.one) == cudaErrorUnknown);
    CHECK(cudaStreamSynchronize(gpu.one) == cudaSuccess);
    CHECK(fake::failed_call() == "cudaStreamSynchronize");
    fake::fail_none();
}

TEST_CASE("a process that reads the GPU's memory on the host crashes") {
    Gpu gpu;
    const pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);  // doctest's handler would report it as a failure
        _exit(*static_cast<volatile char*>(gpu.device));
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(!(WIFEXITED(status) && WEXITSTATUS(status) == 0));
}

TEST_SUITE_END();
