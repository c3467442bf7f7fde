// A chain of engines as a CUDA graph.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend.hpp"
#include "cuda_device.hpp"
#include "tensorrt_engine.hpp"

namespace caflow::runtime {

// A chain for arrays of some shapes, with all that it uses.
class Recording {
  public:
    Recording(std::shared_ptr<const CudaDevice> device, std::string key);
    ~Recording();
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;

    // Have what `run` gives its stream recorded, which is not done.
    void capture(const Chain& run, const Arrays& given);

    // What the chain gives for other arrays, in memory of its own.
    Arrays repeat(const Arrays& given) const;

    const std::string key;
    cudaStream_t stream = nullptr;
    bool is_capturing = false;
    Contexts contexts;
    std::shared_ptr<DeviceMemory> activation;
    std::vector<Array> kept;  // what passes between its graphs

  private:
    const std::shared_ptr<const CudaDevice> device_;
    Arrays inputs_;
    Arrays outputs_;
    cudaGraphExec_t graph_ = nullptr;
};

}  // namespace caflow::runtime
