// Frames of a video, one after the other: steady in time, as far as the noise and the choice of the sample go.
//
// A flow's samples differ by their noise. Where every frame has the same, what does not move does not flicker; the
// noise is renewed at scene cuts. The best of N is chosen on the first frame of a scene and kept through it, so the
// picture does not jump from one sample to another. A frame of which no sample is finite is the enlarged input.
#pragma once

#include <cstdint>
#include <optional>

#include "choice.hpp"
#include "draw.hpp"
#include "image.hpp"
#include "likelihoods.hpp"
#include "noise.hpp"
#include "runner.hpp"
#include "scenes.hpp"

namespace caflow::runtime {

// The noise of a stream's frames: the same for all of a scene, new for each, or that of an AR(1) process.
struct FrameNoise {
    enum class Kind { fixed, fresh, drifting };

    Kind kind = Kind::fixed;
    double persistence = 0;  // ρ of the process, 0 < ρ < 1
};

struct Frame {
    std::uint32_t number;  // from 0
    bool starts_scene;
    Result result;
};

// Draws frames in order; one thread at a time uses it.
class Stream {
  public:
    // `draw`: its samples are those of a scene's first frame; its frame and redraws say nothing here. The runner and
    // the likelihoods must outlive it.
    Stream(Runner& runner, const Likelihoods& likelihoods, const Draw& draw, const FrameNoise& noise);

    // The next frame. One that fails counts all the same.
    Frame draw(const Image& image);

  private:
    bool is_cut(const Image& image);
    void start_scene();
    Result draw_result(const Condition& frame);
    std::optional<Result> best_of(const Condition& frame, std::uint32_t first, std::uint32_t count);
    void judge(Result& result, const Condition& frame) const;
    Judgement judgement() const { return {runner_.model(), draw_, likelihoods_, samples_}; }

    Runner& runner_;
    const Likelihoods& likelihoods_;
    Draw draw_;
    const Reference* samples_;  // what is typical of them, where the draw needs it
    FrameNoise::Kind kind_;
    std::optional<DriftingNoise> drifting_;
    SceneCuts cuts_;
    std::int64_t height_ = 0;  // of the last frame
    std::int64_t width_ = 0;
    std::uint32_t frames_ = 0;  // that were given
    std::uint32_t scenes_ = 0;  // that began
    std::optional<std::uint32_t> sample_;  // that the scene keeps
};

}  // namespace caflow::runtime
