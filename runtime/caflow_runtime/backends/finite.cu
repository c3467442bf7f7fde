// Which rows have a value that is not finite: `flags`, zero before, becomes one there. A thread takes every `step`th value.

extern "C" __global__ void find_not_finite(const float* values, unsigned char* flags, unsigned rows,
                                           unsigned long long row_size) {
    unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;
    for (unsigned long long k = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x; k < rows * row_size; k += step)
        if (!isfinite(values[k])) flags[k / row_size] = 1;
}
