// Compiles the kernel of the Python runtime, noise.cu, for the C++ runtime.
#include "noise_kernel.hpp"

namespace caflow::runtime {

namespace {

#define draw_noise draw_noise_on_gpu
#include "../../caflow_runtime/backends/noise.cu"
#undef draw_noise

constexpr unsigned int threads_of_block = 256;

}  // namespace

cudaError_t launch_draw_noise(const FlowNoise& z, cudaStream_t stream) {
    const unsigned long long groups = (z.count + 3) / 4;
    const unsigned long long threads = groups * z.rows * z.height * z.width;
    const dim3 blocks(static_cast<unsigned int>((threads + threads_of_block - 1) / threads_of_block));
    FlowNoise given = z;
    void* arguments[] = {&given.z,     &given.places, &given.rows,  &given.channels, &given.height, &given.width,
                         &given.first, &given.count,  &given.block, &given.seed,     &given.frame,  &given.temperature};
    // cudaLaunchKernel returns its own error. After <<<…>>>, only the thread's last error is known, which an earlier
    // call may have left.
    return cudaLaunchKernel(reinterpret_cast<const void*>(draw_noise_on_gpu), blocks, dim3(threads_of_block), arguments,
                            0, stream);
}

}  // namespace caflow::runtime
