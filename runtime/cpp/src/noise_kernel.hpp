// Draws the base noise on the GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace caflow::runtime {

// Arguments of the kernel in noise.cu, which draws one block z[i, j] for all rows.
struct FlowNoise {
    float* z;                     // (rows, channels, height, width), with the channels of all blocks of the level
    const std::uint32_t* places;  // top, left and sample number of each row
    std::uint32_t rows;
    std::uint32_t channels;
    std::uint32_t height;
    std::uint32_t width;
    std::uint32_t first;  // first channel of this block
    std::uint32_t count;  // number of channels of this block
    std::uint32_t block;  // 2^16 i + 2^24 j
    std::uint32_t seed;
    std::uint32_t frame;
    float temperature;
};

// Launch the kernel on a stream. Returns CUDA's error code.
cudaError_t launch_draw_noise(const FlowNoise& z, cudaStream_t stream);

}  // namespace caflow::runtime
