// The kernel that Python compiles, too, with a name that no application has.
#include "noise_kernel.hpp"

#define draw_noise caflow_draw_noise
#include "../../caflow_runtime/backends/noise.cu"
#undef draw_noise

namespace caflow::runtime {

cudaError_t launch_draw_noise(const FlowNoise& z, cudaStream_t stream) {
    constexpr unsigned int threads_of_block = 256;
    const unsigned long long groups = (z.count + 3) / 4;
    const unsigned long long threads = groups * z.rows * z.height * z.width;
    const auto blocks = static_cast<unsigned int>((threads + threads_of_block - 1) / threads_of_block);
    caflow_draw_noise<<<blocks, threads_of_block, 0, stream>>>(z.z, z.places, z.rows, z.channels, z.height, z.width, z.first,
                                                               z.count, z.block, z.seed, z.frame, z.temperature);
    return cudaGetLastError();
}

}  // namespace caflow::runtime
