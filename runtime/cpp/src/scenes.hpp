// Where a video changes to another scene.
#pragma once

#include <vector>

#include "image.hpp"

namespace caflow::runtime {

// Says of each frame whether it is of another scene than the one before, by their colours.
class SceneCuts {
  public:
    // True for the first frame, and where the histogram of colours changes at once.
    bool is_cut(const Image& frame);

  private:
    std::vector<float> last_;  // histogram of the last frame
};

}  // namespace caflow::runtime
