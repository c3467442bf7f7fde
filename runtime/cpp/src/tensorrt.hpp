// Backend that runs the bundle's TensorRT engines. All arrays stay on the GPU until the host reads the final outputs.
//
// Engines run one after the other, so all engines share one activation memory. A chain that is called a second time
// with the same shapes is recorded as a CUDA graph and replayed from then on. For small images, separate launches would
// take longer than the computation.
#pragma once

#include <NvInferRuntime.h>

#include <atomic>
#include <list>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "backend.hpp"
#include "cuda_device.hpp"
#include "tensorrt_engine.hpp"
#include "tensorrt_library.hpp"
#include "tensorrt_recording.hpp"

namespace caflow::runtime {

class TensorRt : public Backend {
  public:
    // `set` is an engine set of the bundle that fits the device. Throws a BackendError or OutOfMemory.
    TensorRt(std::shared_ptr<CudaDevice> device, EngineSet set, const Manifest& manifest);
    ~TensorRt() override;

    Graph load(const GraphFile& graph, const std::vector<std::string>& on_host) override;
    bool reads_onnx() const override { return false; }
    const char* warning() const override { return warning_; }
    Array draw_noise(const LevelNoise& z) override;
    Arrays replay(const std::string& name, const Chain& run, const Arrays& given) override;

    // Call `make`, which creates an object of TensorRT or runs an engine, and return its result. If it fails, return
    // unused memory to the driver and call it again. Throws a BackendError or OutOfMemory if it fails again; `what` is
    // the start of the message.
    template <class Make>
    auto made(const std::string& what, Make make) {
        forget_errors_of_tensorrt();
        auto object = make();
        if (!object) {
            device->give_back();
            forget_errors_of_tensorrt();
            object = make();
        }
        if (!object) fail(what + ": " + name + " cannot run this engine: " + errors_of_tensorrt());
        return object;
    }

    // Return the shared activation memory, with at least this number of bytes; or memory for an output. Hold `mutex`
    // during the calls.
    const DeviceMemory& activation(std::size_t bytes);
    std::shared_ptr<const DeviceTensor> output(const Shape& shape, Type type);

    bool is_capturing() const { return recording && recording->is_capturing; }

    const std::shared_ptr<CudaDevice> device;
    std::recursive_mutex mutex;      // held while work is queued, because threads share contexts and activation memory
    Recording* recording = nullptr;  // the recording in progress, or nullptr

  private:
    std::unique_ptr<Recording> record(const std::string& key, const Chain& run, const Arrays& given);
    std::unique_ptr<Recording> take_recording(const std::string& key);
    void keep(std::size_t most);
    void warn(const std::string& reason);

    const EngineSet set_;
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
    std::list<EngineGraph> graphs_;
    std::shared_ptr<DeviceMemory> activation_;
    std::set<std::string> seen_;        // chains, with shapes, that ran at least once
    std::set<std::string> unrecorded_;  // chains, with shapes, that cannot be recorded or do not fit in memory
    std::list<std::unique_ptr<Recording>> recordings_;  // most recently used first
    std::once_flag warned_;
    std::string warning_text_;
    std::atomic<const char*> warning_ = nullptr;  // points to warning_text_ once that is written
};

}  // namespace caflow::runtime
