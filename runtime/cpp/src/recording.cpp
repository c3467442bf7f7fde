#include "recording.hpp"

namespace caflow::runtime {

Recording::Recording(std::shared_ptr<const CudaDevice> device, std::string key)
    : key(std::move(key)), device_(std::move(device)) {
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), device_->name());
}

Recording::~Recording() {
    cudaStreamSynchronize(device_->stream());  // contexts are not freed in its order
    if (graph_) cudaGraphExecDestroy(graph_);
    cudaStreamDestroy(stream);
}

void Recording::capture(const Chain& run, const Arrays& given) {
    for (const auto& [name, array] : given) {
        inputs_[name] = std::make_shared<DeviceTensor>(device_, array->shape, array->type);
    }
    cudaGraph_t captured = nullptr;
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "a CUDA graph");
    is_capturing = true;
    const auto end = [&] {
        is_capturing = false;
        return cudaStreamEndCapture(stream, &captured);
    };
    try {
        outputs_ = run(inputs_);
    } catch (...) {
        end();
        if (captured) cudaGraphDestroy(captured);
        throw;
    }
    check(end(), "a CUDA graph");
    const cudaError_t error = cudaGraphInstantiate(&graph_, captured, 0);
    cudaGraphDestroy(captured);
    check(error, "a CUDA graph");
}

Arrays Recording::repeat(const Arrays& given) const {
    const cudaStream_t compute = device_->stream();
    const auto copy = [&](const Array& target, const void* from, cudaMemcpyKind way) {
        void* to = static_cast<const DeviceTensor&>(*target).address();
        check(cudaMemcpyAsync(to, from, target->bytes(), way, compute), device_->name());
    };
    for (const auto& [name, input] : inputs_) {
        const Array& array = given.at(name);
        const auto* there = dynamic_cast<const DeviceTensor*>(array.get());
        if (there) copy(input, there->address(), cudaMemcpyDeviceToDevice);
        if (!there) copy(input, array->values(), cudaMemcpyHostToDevice);
    }
    check(cudaGraphLaunch(graph_, compute), "a CUDA graph");
    Arrays results;
    for (const auto& [name, output] : outputs_) {
        results[name] = std::make_shared<DeviceTensor>(device_, output->shape, output->type);
        copy(results[name], static_cast<const DeviceTensor&>(*output).address(), cudaMemcpyDeviceToDevice);
    }
    return results;
}

}  // namespace caflow::runtime
