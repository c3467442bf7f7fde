#include "tensorrt_recording.hpp"

namespace caflow::runtime {

Recording::Recording(std::shared_ptr<const CudaDevice> device, std::string key)
    : key(std::move(key)), device_(std::move(device)) {
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), device_->name());
}

Recording::~Recording() {
    const FirstGpu first;
    cudaStreamSynchronize(device_->compute());  // contexts are freed at once, not in the order of the stream
    if (graph_) cudaGraphExecDestroy(graph_);
    contexts.clear();
    cudaStreamDestroy(stream);
}

void Recording::capture(const Chain& run, const Arrays& given) {
    for (const auto& [name, array] : given) {
        inputs_[name] = std::make_shared<DeviceTensor>(device_, array->shape, array->type);
    }
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "a CUDA graph");
    is_capturing = true;
    cudaGraph_t captured = nullptr;
    const auto end = [&] {
        is_capturing = false;
        return cudaStreamEndCapture(stream, &captured);
    };
    try {
        outputs_ = run(inputs_);
    } catch (...) {
        if (end() != cudaSuccess) cudaGetLastError();  // the exception describes the cause
        if (captured) cudaGraphDestroy(captured);
        throw;
    }
    check(end(), "a CUDA graph");
    const cudaError_t error = cudaGraphInstantiate(&graph_, captured, 0);
    cudaGraphDestroy(captured);
    check(error, "a CUDA graph");
}

Arrays Recording::repeat(const Arrays& given) const {
    const auto copy = [&](const Tensor& from, const Tensor& to) {
        const auto address = [](const Tensor& array) { return static_cast<const DeviceTensor&>(array).address(); };
        check(cudaMemcpyAsync(address(to), address(from), to.bytes(), cudaMemcpyDeviceToDevice, device_->compute()),
              device_->name());
    };
    for (const auto& [name, input] : inputs_) {
        copy(*on_device(device_, given.at(name)), *input);
    }
    check(cudaGraphLaunch(graph_, device_->compute()), "a CUDA graph");
    Arrays results;
    for (const auto& [name, output] : outputs_) {
        const auto result = std::make_shared<DeviceTensor>(device_, output->shape, output->type);
        copy(*output, *result);
        results[name] = result;
    }
    return results;
}

}  // namespace caflow::runtime
