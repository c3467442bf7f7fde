#include "cuda_device.hpp"

#include <cstdint>
#include <limits>

#include "backend.hpp"
#include "errors.hpp"
#include "noise_kernel.hpp"

namespace caflow::runtime {

void check(cudaError_t error, const std::string& what) {
    if (error == cudaSuccess) return;
    cudaGetLastError();  // else the next one to ask hears of it
    fail(what + ": " + cudaGetErrorString(error));
}

CudaDevice::CudaDevice() {
    int count = 0;
    if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess || count == 0) {
        cudaGetLastError();
        const char* why = error == cudaSuccess ? "there is none" : cudaGetErrorString(error);
        throw BackendError(std::string("wanted an NVIDIA GPU, but none can be used (") + why +
                           "): install its driver, or a newer one");
    }
    use();
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, 0), "the GPU");
    name_ = properties.name;
    compute_capability_ = std::to_string(properties.major) + "." + std::to_string(properties.minor);
    check(cudaDeviceGetDefaultMemPool(&pool_, 0), name_);
    auto kept = std::numeric_limits<std::uint64_t>::max();  // else every wait gives all that is free back
    check(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &kept), name_);
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), name_);
}

CudaDevice::~CudaDevice() {
    cudaStreamSynchronize(stream_);
    cudaStreamDestroy(stream_);
}

void CudaDevice::use() const { check(cudaSetDevice(0), "the GPU"); }

std::shared_ptr<DeviceMemory> CudaDevice::allocate(std::size_t bytes) const {
    void* address = nullptr;
    if (cudaMallocAsync(&address, bytes, stream_) != cudaSuccess) {
        cudaGetLastError();
        give_back();
        check(cudaMallocAsync(&address, bytes, stream_), name_);
    }
    return std::make_shared<DeviceMemory>(shared_from_this(), address, bytes);
}

Array CudaDevice::upload(const Tensor& array) const {
    const auto copy = std::make_shared<DeviceTensor>(shared_from_this(), array.shape, array.type);
    check(cudaMemcpyAsync(copy->address(), array.values(), array.bytes(), cudaMemcpyHostToDevice, stream_), name_);
    return copy;
}

Array CudaDevice::draw_rows(const LevelNoise& z) const {
    const Shape shape = z.shape();
    const auto drawn = std::make_shared<DeviceTensor>(shared_from_this(), shape, Type::float32);
    const auto rows = std::uint32_t(z.rows.size());
    const auto places = allocate(rows * sizeof(LevelNoise::Row));
    check(cudaMemcpyAsync(places->address, z.rows.data(), places->bytes, cudaMemcpyHostToDevice, stream_), name_);
    FlowNoise one{static_cast<float*>(drawn->address()),
                  static_cast<const std::uint32_t*>(places->address),
                  rows,
                  std::uint32_t(shape[1]),
                  z.height,
                  z.width,
                  0,
                  0,
                  0,
                  z.seed,
                  z.frame,
                  0};
    for (std::size_t k = 0; k < z.channels.size(); ++k) {
        one.first += one.count;
        one.count = std::uint32_t(z.channels[k]);
        one.block = (z.level + std::uint32_t(k)) << 16 | z.level << 24;
        one.temperature = z.temperature[k];
        check(launch_draw_noise(one, stream_), name_);
    }
    return drawn;
}

void CudaDevice::synchronize() const { check(cudaStreamSynchronize(stream_), name_); }

void CudaDevice::give_back() const {
    spare();
    synchronize();
    check(cudaMemPoolTrimTo(pool_, 0), name_);
}

DeviceMemory::~DeviceMemory() { cudaFreeAsync(address, device_->stream()); }

DeviceTensor::DeviceTensor(std::shared_ptr<const CudaDevice> device, Shape shape, Type type)
    : Tensor(std::move(shape), type), device_(std::move(device)), memory_(device_->allocate(bytes())) {}

const void* DeviceTensor::values() const {
    std::call_once(copied_, [&] {
        device_->use();
        std::vector<std::byte> copy(bytes());
        check(cudaMemcpyAsync(copy.data(), address(), copy.size(), cudaMemcpyDeviceToHost, device_->stream()),
              device_->name());
        device_->synchronize();
        copy_ = std::move(copy);
    });
    return copy_.data();
}

}  // namespace caflow::runtime
