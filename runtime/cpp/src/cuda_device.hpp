// The GPU's memory and streams, by CUDA's runtime.
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

// OutOfMemory or a BackendError where a call of CUDA failed.
void check(cudaError_t error, const std::string& what);

// The calling thread's GPU is the first one as long as this lives; the application may use another.
class FirstGpu {
  public:
    FirstGpu() noexcept;
    ~FirstGpu();
    FirstGpu(const FirstGpu&) = delete;
    FirstGpu& operator=(const FirstGpu&) = delete;

  private:
    int before_ = 0;
};

// What CUDA made, destroyed with its owner, also where a constructor fails halfway.
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

// Memory of the host that the GPU copies from or to by itself; one thread has it at a time.
class Staging {
  public:
    ~Staging();

    // At least so many bytes, while `mutex` is held.
    void* of(std::size_t bytes);

    std::mutex mutex;

  private:
    void* address_ = nullptr;
    std::size_t bytes_ = 0;
};

class DeviceMemory;

// The first GPU, with a stream that computes and one for copies each way, so that they overlap. Any thread may use it.
class CudaDevice : public std::enable_shared_from_this<CudaDevice> {
  public:
    // A BackendError without a driver or a GPU.
    CudaDevice();
    ~CudaDevice();
    CudaDevice(const CudaDevice&) = delete;
    CudaDevice& operator=(const CudaDevice&) = delete;

    const std::string& name() const { return name_; }
    const std::string& compute_capability() const { return compute_capability_; }  // such as "8.6"
    cudaStream_t compute() const { return compute_.get(); }

    // Memory for the computing stream, let go of when that has done what it was given until then. OutOfMemory where
    // there is none.
    std::shared_ptr<DeviceMemory> allocate(std::size_t bytes) const;

    // A copy on the device, which what the computing stream is given from here on finds there.
    std::shared_ptr<DeviceMemory> upload(const void* values, std::size_t bytes) const;

    // A copy on the host, when the computing stream has done what it was given until now.
    std::vector<std::byte> download(const DeviceMemory& memory, std::size_t bytes) const;

    // Noise, drawn there: the same integers as the host's, the normals within one float32 step.
    Array draw_rows(const LevelNoise& z) const;

    // Wait for the computing stream.
    void synchronize() const;

    // All memory that is not in use, for others: what was freed is kept, and TensorRT takes none of it.
    void give_back() const;

    // What lets go of memory that is held for speed alone; asked for where there is no more.
    void set_spare(std::function<void()> spare) { spare_ = std::move(spare); }

  private:
    std::shared_ptr<DeviceMemory> allocate(std::size_t bytes, cudaStream_t stream) const;

    std::string name_;
    std::string compute_capability_;
    Pool pool_;
    Stream compute_;
    Stream up_;
    Stream down_;
    Event computed_;  // with the mutex of `to_host_`
    mutable Staging to_device_;
    mutable Staging to_host_;
    std::function<void()> spare_ = [] {};
};

// Holds memory of a device.
class DeviceMemory {
  public:
    explicit DeviceMemory(std::shared_ptr<const CudaDevice> device) : device_(std::move(device)) {}
    ~DeviceMemory();
    DeviceMemory(const DeviceMemory&) = delete;
    DeviceMemory& operator=(const DeviceMemory&) = delete;

    void* address = nullptr;
    std::size_t bytes = 0;
    cudaStream_t stream = nullptr;  // that used it last: it is freed in its order

  private:
    const std::shared_ptr<const CudaDevice> device_;
};

// An array in the GPU's memory. The host gets a copy when it first asks.
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

// The same array, or a copy of it on the device.
Array on_device(const std::shared_ptr<const CudaDevice>& device, const Array& array);

}  // namespace caflow::runtime
