// Sets flags[row] to 1 for each row that has a value that is not finite. All flags must be 0 before.
// Each thread checks every `step`th value.

extern "C" __global__ void find_not_finite(const float* values, unsigned char* flags, unsigned rows,
                                           unsigned long long row_size) {
    unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;
    for (unsigned long long k = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x; k < rows * row_size; k += step)
        if (!isfinite(values[k])) flags[k / row_size] = 1;
}
