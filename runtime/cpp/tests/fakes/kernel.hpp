// Compiles noise_kernel.cu, whose kernel takes these from CUDA's compiler, as C++ for the host.
#pragma once

#include <cuda_runtime_api.h>
#include <math.h>

extern uint3 blockIdx, threadIdx;
extern dim3 blockDim, gridDim;
