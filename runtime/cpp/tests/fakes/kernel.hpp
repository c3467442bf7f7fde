// Declarations with which noise_kernel.cu compiles as C++ for the host. CUDA's compiler has them built in.
#pragma once

#include <cuda_runtime_api.h>
#include <math.h>

extern uint3 blockIdx, threadIdx;
extern dim3 blockDim, gridDim;
