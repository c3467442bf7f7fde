// Draws the frames of a video one after the other, without flicker.
//
// The samples of a flow differ only by their noise. If all frames of a scene have the same noise, static content does
// not flicker; each scene has new noise. The best of N samples is chosen on the first frame of a scene, and its number
// is used for the whole scene, so the picture does not switch between samples. If no sample of a frame is finite, the
// result is the enlarged input.
#pragma once

#include <cstdint>
#include <optional>

#include "calibrated_likelihoods.hpp"
#include "choice.hpp"
#include "image.hpp"
#include "noise.hpp"
#include "runner.hpp"
#include "draw_options.hpp"
#include "scenes.hpp"

namespace caflow::runtime {

// Noise of a stream's frames: the same for all frames of a scene, new for each frame, or drifting as an AR(1) process.
struct FrameNoise {
    enum class Kind { fixed, fresh, drifting };

    Kind kind = Kind::fixed;
    double persistence = 0;  // ρ of the AR(1) process, 0 < ρ < 1
};

// Result of one frame.
struct Frame {
    std::uint32_t number;  // from 0
    bool starts_scene;
    Result result;
};

// Draws frames in order. Only one thread at a time may use it.
class Stream {
  public:
    // `draw.n` is the number of samples of a scene's first frame; `draw.frame` and `draw.reject.redraws` are
    // ignored. The runner and the likelihoods must outlive the stream. Throws an InputError.
    Stream(Runner& runner, const Likelihoods& likelihoods, const DrawOptions& draw, const FrameNoise& noise);

    // Draw the next frame. The frame counts even if this throws.
    Frame draw(const Image& image);

  private:
    bool is_cut(const Image& image);
    void start_scene();
    Result draw_result(const Condition& frame, bool starts_scene);
    std::optional<Result> best_of(const Condition& frame, std::uint32_t first, std::uint32_t count);
    void judge(Result& result, const Condition& frame) const;
    Judgement judgement() const { return {runner_.graphs(), draw_, likelihoods_, samples_}; }

    Runner& runner_;
    const Likelihoods& likelihoods_;
    DrawOptions draw_;
    const TypicalityModel* samples_;  // distribution of the draw's samples; nullptr if the draw does not need it
    FrameNoise::Kind kind_;
    SceneNoise scene_noise_;  // of the scene's sample, if the noise is fixed
    std::optional<DriftingNoise> drifting_;
    SceneCuts cuts_;
    std::int64_t height_ = 0;              // of the last frame
    std::int64_t width_ = 0;               // of the last frame
    std::uint32_t frames_ = 0;             // number of frames so far
    std::uint32_t scenes_ = 0;             // number of scenes so far
    std::optional<std::uint32_t> sample_;  // number of the scene's sample
};

}  // namespace caflow::runtime
