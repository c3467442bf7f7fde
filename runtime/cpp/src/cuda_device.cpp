#include "cuda_device.hpp"

#include <cstdint>
#include <cstring>
#include <limits>

#include "backend.hpp"
#include "errors.hpp"
#include "noise_kernel.hpp"

namespace caflow::runtime {

void check(cudaError_t error, const std::string& what) {
    if (error == cudaSuccess) return;
    cudaGetLastError();  // clear the error, which the thread's next call would report otherwise
    fail(what + ": " + cudaGetErrorString(error));
}

FirstGpu::FirstGpu() noexcept {
    if (cudaGetDevice(&before_) != cudaSuccess) before_ = 0;
    cudaSetDevice(0);  // not checked, as destructors use it: if it fails, the next call fails too
}

FirstGpu::~FirstGpu() { cudaSetDevice(before_); }

Staging::~Staging() { cudaFreeHost(address_); }

void* Staging::of(std::size_t bytes) {
    if (bytes_ < bytes) {
        cudaFreeHost(address_);
        address_ = nullptr;
        bytes_ = 0;
        check(cudaMallocHost(&address_, bytes), "pinned memory of the host");
        bytes_ = bytes;
    }
    return address_;
}

CudaDevice::CudaDevice() {
    int count = 0;
    if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess || count == 0) {
        cudaGetLastError();
        const char* why = error == cudaSuccess ? "no GPU was found" : cudaGetErrorString(error);
        throw BackendError(std::string("the backend requires an NVIDIA GPU, but none can be used (") + why +
                           "): install an NVIDIA driver, or a newer one");
    }
    const FirstGpu first;
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, 0), "the GPU");
    name_ = properties.name;
    compute_capability_ = std::to_string(properties.major) + "." + std::to_string(properties.minor);
    cudaMemPoolProps kind{};
    kind.allocType = cudaMemAllocationTypePinned;
    kind.location.type = cudaMemLocationTypeDevice;
    cudaMemPool_t pool = nullptr;
    check(cudaMemPoolCreate(&pool, &kind), name_);
    pool_.reset(pool);
    auto kept = std::numeric_limits<std::uint64_t>::max();  // without this, each wait returns all free memory
    check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept), name_);
    for (Stream* stream : {&compute_, &up_, &down_}) {
        cudaStream_t created = nullptr;
        check(cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking), name_);
        stream->reset(created);
    }
    cudaEvent_t event = nullptr;
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), name_);
    computed_.reset(event);
}

CudaDevice::~CudaDevice() {
    const FirstGpu first;
    cudaStreamSynchronize(compute());
}

std::shared_ptr<DeviceMemory> CudaDevice::allocate(std::size_t bytes) const { return allocate(bytes, compute()); }

std::shared_ptr<DeviceMemory> CudaDevice::allocate(std::size_t bytes, cudaStream_t stream) const {
    const FirstGpu first;
    auto memory = std::make_shared<DeviceMemory>(shared_from_this());
    if (cudaMallocFromPoolAsync(&memory->address, bytes, pool_.get(), stream) != cudaSuccess) {
        cudaGetLastError();
        memory->address = nullptr;
        give_back();
        check(cudaMallocFromPoolAsync(&memory->address, bytes, pool_.get(), stream), name_);
    }
    memory->bytes = bytes;
    memory->stream = stream;
    return memory;
}

std::shared_ptr<DeviceMemory> CudaDevice::upload(const void* values, std::size_t bytes) const {
    const FirstGpu first;
    const auto memory = allocate(bytes, up_.get());
    const std::lock_guard lock(to_device_.mutex);
    void* staged = to_device_.of(bytes);
    std::memcpy(staged, values, bytes);
    check(cudaMemcpyAsync(memory->address, staged, bytes, cudaMemcpyHostToDevice, up_.get()), name_);
    check(cudaStreamSynchronize(up_.get()), name_);  // the staging memory is free again; `compute` is not blocked
    memory->stream = compute();
    return memory;
}

std::vector<std::byte> CudaDevice::download(const DeviceMemory& memory, std::size_t bytes) const {
    const FirstGpu first;
    std::vector<std::byte> copy(bytes);
    const std::lock_guard lock(to_host_.mutex);
    void* staged = to_host_.of(bytes);
    check(cudaEventRecord(computed_.get(), compute()), name_);
    check(cudaStreamWaitEvent(down_.get(), computed_.get(), 0), name_);
    check(cudaMemcpyAsync(staged, memory.address, bytes, cudaMemcpyDeviceToHost, down_.get()), name_);
    check(cudaStreamSynchronize(down_.get()), name_);
    std::memcpy(copy.data(), staged, bytes);
    return copy;
}

Array CudaDevice::draw_rows(const LevelNoise& z) const {
    const FirstGpu first;
    const Shape shape = z.shape();
    const auto drawn = std::make_shared<DeviceTensor>(shared_from_this(), shape, Type::float32);
    const auto places = upload(z.rows.data(), z.rows.size() * sizeof(LevelNoise::Row));
    FlowNoise one{static_cast<float*>(drawn->address()),
                  static_cast<const std::uint32_t*>(places->address),
                  std::uint32_t(z.rows.size()),
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
        check(launch_draw_noise(one, compute()), name_);
    }
    return drawn;
}

void CudaDevice::synchronize() const {
    const FirstGpu first;
    check(cudaStreamSynchronize(compute()), name_);
}

void CudaDevice::give_back() const {
    spare_();
    synchronize();
    check(cudaMemPoolTrimTo(pool_.get(), 0), name_);
}

DeviceMemory::~DeviceMemory() {
    if (!address) return;
    const FirstGpu first;
    cudaFreeAsync(address, stream);
}

DeviceTensor::DeviceTensor(std::shared_ptr<const CudaDevice> device, Shape shape, Type type)
    : Tensor(std::move(shape), type), device_(std::move(device)), memory_(device_->allocate(bytes())) {}

DeviceTensor::DeviceTensor(std::shared_ptr<const CudaDevice> device, const Tensor& uploaded)
    : Tensor(uploaded.shape, uploaded.type),
      device_(std::move(device)),
      memory_(device_->upload(uploaded.values(), bytes())) {}

const void* DeviceTensor::values() const {
    std::call_once(copied_, [&] { copy_ = device_->download(*memory_, bytes()); });
    return copy_.data();
}

Array on_device(const std::shared_ptr<const CudaDevice>& device, const Array& array) {
    if (dynamic_cast<const DeviceTensor*>(array.get())) return array;
    return std::make_shared<DeviceTensor>(device, *array);
}

}  // namespace caflow::runtime
