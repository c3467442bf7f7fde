// Records a chain of engines as a CUDA graph and replays it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend.hpp"
#include "cuda_device.hpp"
#include "tensorrt_engine.hpp"

namespace caflow::runtime {

// Recording of a chain for inputs of certain shapes. It owns everything that the chain uses.
class Recording {
  public:
    Recording(std::shared_ptr<const CudaDevice> device, std::string key);
    ~Recording();
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;

    // Record the work that `run` queues on the recording's stream. The work is not executed.
    void capture(const Chain& run, const Arrays& given);

    // Run the recorded chain on other inputs of the same shapes. Return copies of its outputs.
    Arrays repeat(const Arrays& given) const;

    const std::string key;
    cudaStream_t stream = nullptr;
    bool is_capturing = false;
    Contexts contexts;
    std::shared_ptr<DeviceMemory> activation;
    std::vector<Array> kept;  // outputs of the chain's graphs

  private:
    const std::shared_ptr<const CudaDevice> device_;
    Arrays inputs_;
    Arrays outputs_;
    cudaGraphExec_t graph_ = nullptr;
};

}  // namespace caflow::runtime
