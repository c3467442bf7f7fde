// The GPU's memory and its stream, by CUDA's runtime.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "noise.hpp"
#include "tensor.hpp"

namespace caflow::runtime {

// What a call of CUDA gave, as OutOfMemory or a BackendError where it failed.
void check(cudaError_t error, const std::string& what);

class DeviceMemory;

// The first GPU, with the stream that computes. Any thread may use it.
class CudaDevice : public std::enable_shared_from_this<CudaDevice> {
  public:
    // A BackendError without a driver or a GPU.
    CudaDevice();
    ~CudaDevice();
    CudaDevice(const CudaDevice&) = delete;
    CudaDevice& operator=(const CudaDevice&) = delete;

    const std::string& name() const { return name_; }
    const std::string& compute_capability() const { return compute_capability_; }  // such as "8.6"
    cudaStream_t stream() const { return stream_; }

    // Make it the calling thread's.
    void use() const;

    // Memory for the stream, let go of when it has done what it was given until then. OutOfMemory where there is none.
    std::shared_ptr<DeviceMemory> allocate(std::size_t bytes) const;

    // A copy on the device, which what the stream is given from here on finds there.
    Array upload(const Tensor& array) const;

    // Noise, drawn there: the same integers as the host's, the normals within one float32 step.
    Array draw_rows(const LevelNoise& z) const;

    // Wait for the stream.
    void synchronize() const;

    // All memory that is not in use, for others: what was freed is kept, and TensorRT takes none of it.
    void give_back() const;

    // Lets go of memory that is held for speed alone; asked for where there is no more.
    std::function<void()> spare = [] {};

  private:
    std::string name_;
    std::string compute_capability_;
    cudaStream_t stream_ = nullptr;
    cudaMemPool_t pool_ = nullptr;
};

class DeviceMemory {
  public:
    DeviceMemory(std::shared_ptr<const CudaDevice> device, void* address, std::size_t bytes)
        : address(address), bytes(bytes), device_(std::move(device)) {}
    ~DeviceMemory();
    DeviceMemory(const DeviceMemory&) = delete;
    DeviceMemory& operator=(const DeviceMemory&) = delete;

    void* const address;
    const std::size_t bytes;

  private:
    const std::shared_ptr<const CudaDevice> device_;
};

// An array in the GPU's memory. The host gets a copy when it first asks.
class DeviceTensor : public Tensor {
  public:
    DeviceTensor(std::shared_ptr<const CudaDevice> device, Shape shape, Type type);

    void* address() const { return memory_->address; }
    const void* values() const override;

  private:
    const std::shared_ptr<const CudaDevice> device_;
    const std::shared_ptr<DeviceMemory> memory_;
    mutable std::once_flag copied_;
    mutable std::vector<std::byte> copy_;
};

}  // namespace caflow::runtime
