// The base noise, drawn on the GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace caflow::runtime {

// One z[i, j], as noise.cu takes it.
struct FlowNoise {
    float* z;  // (rows, channels, height, width), of all i
    const std::uint32_t* places;
    std::uint32_t rows;
    std::uint32_t channels;
    std::uint32_t height;
    std::uint32_t width;
    std::uint32_t first;  // channel of this one, and how many it has
    std::uint32_t count;
    std::uint32_t block;
    std::uint32_t seed;
    std::uint32_t frame;
    float temperature;
};

cudaError_t launch_draw_noise(const FlowNoise& z, cudaStream_t stream);

}  // namespace caflow::runtime
