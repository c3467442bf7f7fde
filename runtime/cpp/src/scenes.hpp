// Detects scene cuts in a video.
#pragma once

#include <vector>

#include "image.hpp"

namespace caflow::runtime {

// Compares the colours of each frame with those of the frame before it.
class SceneCuts {
  public:
    // Return whether a frame begins a new scene: it is the first frame, or its colour histogram differs much from that
    // of the last frame.
    bool is_cut(const Image& frame);

  private:
    std::vector<float> last_;  // histogram of the last frame
};

}  // namespace caflow::runtime
