// Memory and streams of the GPU, with the CUDA runtime.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

#include "noise.hpp"
#include "tensor.hpp"

namespace caflow::runtime {

// Check the error code of a CUDA call. Throws OutOfMemory or a BackendError whose message begins with `what`.
void check(cudaError_t error, const std::string& what);

// Makes the first GPU the calling thread's current GPU for the lifetime of the object, and restores the application's
// choice afterwards.
class FirstGpu {
  public:
    FirstGpu() noexcept;
    ~FirstGpu();
    FirstGpu(const FirstGpu&) = delete;
    FirstGpu& operator=(const FirstGpu&) = delete;

  private:
    int before_ = 0;
};

// Deleter for handles of CUDA. With it, handles are also destroyed if a constructor throws.
template <auto destroy>
struct Destroy {
    template <class Object>
    void operator()(Object* object) const noexcept {
        const FirstGpu first;
        destroy(object);
    }
};
using Pool = std::unique_ptr<std::remove_pointer_t<cudaMemPool_t>, Destroy<cudaMemPoolDestroy>>;
using Stream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, Destroy<cudaStreamDestroy>>;
using Event = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, Destroy<cudaEventDestroy>>;

// Pinned host memory for copies to or from the GPU. Only one thread at a time may use it.
class Staging {
  public:
    ~Staging();

    // Return at least this number of bytes. Hold `mutex` during the call and while the memory is used.
    void* of(std::size_t bytes);

    std::mutex mutex;

  private:
    void* address_ = nullptr;
    std::size_t bytes_ = 0;
};

class DeviceMemory;

// The first GPU, with a compute stream and one stream for copies in each direction, so that copies and computations
// overlap. Any thread may use it.
class CudaDevice : public std::enable_shared_from_this<CudaDevice> {
  public:
    // Throws a BackendError if there is no usable driver or GPU.
    CudaDevice();
    ~CudaDevice();
    CudaDevice(const CudaDevice&) = delete;
    CudaDevice& operator=(const CudaDevice&) = delete;

    const std::string& name() const { return name_; }
    const std::string& compute_capability() const { return compute_capability_; }  // such as "8.6"
    cudaStream_t compute() const { return compute_.get(); }

    // Return memory for the compute stream. When the last owner releases it, it is freed after the work that was queued
    // on the stream until then. Throws OutOfMemory.
    std::shared_ptr<DeviceMemory> allocate(std::size_t bytes) const;

    // Return a copy of host memory on the device. Work that is queued on the compute stream afterwards can use it.
    std::shared_ptr<DeviceMemory> upload(const void* values, std::size_t bytes) const;

    // Wait for the work that is queued on the compute stream now, and return a copy of device memory on the host.
    std::vector<std::byte> download(const DeviceMemory& memory, std::size_t bytes) const;

    // Draw noise on the device. Integers are equal to those of the host, and normal numbers differ by at most one
    // float32 step.
    Array draw_rows(const LevelNoise& z) const;

    // Wait for all work on the compute stream.
    void synchronize() const;

    // Return all unused memory of the pool to the driver. The pool keeps freed memory, which TensorRT cannot use.
    void give_back() const;

    // Set a function that frees memory that is kept for speed only. It is called when memory runs out.
    void set_spare(std::function<void()> spare) { spare_ = std::move(spare); }

  private:
    std::shared_ptr<DeviceMemory> allocate(std::size_t bytes, cudaStream_t stream) const;

    std::string name_;
    std::string compute_capability_;
    Pool pool_;
    Stream compute_;
    Stream up_;
    Stream down_;
    Event computed_;  // protected by the mutex of `to_host_`
    mutable Staging to_device_;
    mutable Staging to_host_;
    std::function<void()> spare_ = [] {};
};

// Memory on a device. It is freed with the object, in the order of its stream.
class DeviceMemory {
  public:
    explicit DeviceMemory(std::shared_ptr<const CudaDevice> device) : device_(std::move(device)) {}
    ~DeviceMemory();
    DeviceMemory(const DeviceMemory&) = delete;
    DeviceMemory& operator=(const DeviceMemory&) = delete;

    void* address = nullptr;
    std::size_t bytes = 0;
    cudaStream_t stream = nullptr;  // last stream that used the memory; the memory is freed in the order of this stream

  private:
    const std::shared_ptr<const CudaDevice> device_;
};

// Array in the GPU's memory. values() copies it to the host at the first call.
class DeviceTensor : public Tensor {
  public:
    DeviceTensor(std::shared_ptr<const CudaDevice> device, Shape shape, Type type);
    DeviceTensor(std::shared_ptr<const CudaDevice> device, const Tensor& uploaded);

    void* address() const { return memory_->address; }
    const void* values() const override;

  private:
    const std::shared_ptr<const CudaDevice> device_;
    const std::shared_ptr<DeviceMemory> memory_;
    mutable std::once_flag copied_;
    mutable std::vector<std::byte> copy_;
};

// Return the array itself if it is on the device, and a copy on the device otherwise.
Array on_device(const std::shared_ptr<const CudaDevice>& device, const Array& array);

}  // namespace caflow::runtime
