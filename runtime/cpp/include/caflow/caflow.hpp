// caflow for C++17: caflow.h with classes that own handles and results, and with exceptions instead of statuses. This
// file is header-only; link the same library.
//
//     caflow::Model model("models/x4-photo.caflow");
//     caflow::Results best = model.best_of(caflow::view(rgb, height, width));
//     std::cout << best[0].width() << " x " << best[0].height() << ", " << best[0].log_likelihood() << " nats\n";
//
// caflow.h describes what the functions do and what the options mean. Any number of threads may use one Model at the
// same time. opencv.hpp has functions for images of OpenCV.
#ifndef CAFLOW_HPP
#define CAFLOW_HPP

#include <caflow/caflow.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace caflow {

// Base class of all exceptions of this header. Each caflow_status other than CAFLOW_OK has its own class. what()
// returns the message of caflow_last_error.
class Error : public std::runtime_error {
    using std::runtime_error::runtime_error;
};
// CAFLOW_ERROR_INPUT: an argument or an option is not valid.
class InputError : public Error {
    using Error::Error;
};
// CAFLOW_ERROR_BUNDLE: the folder is not a bundle, or the bundle is damaged or of another version.
class BundleError : public Error {
    using Error::Error;
};
// CAFLOW_ERROR_BACKEND: the backend is not available on this machine, or it failed.
class BackendError : public Error {
    using Error::Error;
};
// CAFLOW_ERROR_NOT_FINITE: a sample or a likelihood is infinite or NaN, so there is no result.
class NotFinite : public Error {
    using Error::Error;
};
// CAFLOW_ERROR_OUT_OF_MEMORY: memory ran out, even after the pixel budget was reduced as far as possible.
class OutOfMemory : public Error {
    using Error::Error;
};
// CAFLOW_ERROR_UNTYPICAL: every sample of an image was rejected, with Otherwise::drop.
class Untypical : public Error {
    using Error::Error;
};
// CAFLOW_ERROR_STOPPED: Model::set_stopped or DrawOptions::progress stopped the call.
class Stopped : public Error {
    using Error::Error;
};
// CAFLOW_ERROR_INTERNAL: a bug in the library.
class InternalError : public Error {
    using Error::Error;
};

// Throw the exception that belongs to a status; return normally for CAFLOW_OK.
inline void check(caflow_status status) {
    const char* message = caflow_last_error();
    switch (status) {
        case CAFLOW_OK:
            return;
        case CAFLOW_ERROR_INPUT:
            throw InputError(message);
        case CAFLOW_ERROR_BUNDLE:
            throw BundleError(message);
        case CAFLOW_ERROR_BACKEND:
            throw BackendError(message);
        case CAFLOW_ERROR_NOT_FINITE:
            throw NotFinite(message);
        case CAFLOW_ERROR_OUT_OF_MEMORY:
            throw OutOfMemory(message);
        case CAFLOW_ERROR_UNTYPICAL:
            throw Untypical(message);
        case CAFLOW_ERROR_STOPPED:
            throw Stopped(message);
        case CAFLOW_ERROR_INTERNAL:
            break;
    }
    throw InternalError(message);
}

// View of consecutive values that another object owns, like std::span of C++20. The view must not outlive that object.
template <class T>
class Span {
  public:
    Span() = default;
    Span(const T* data, std::size_t size) : data_(data), size_(size) {}
    Span(const T& one) : Span(&one, 1) {}
    Span(const std::vector<T>& values) : Span(values.data(), values.size()) {}
    Span(std::initializer_list<T> values) : Span(values.begin(), values.size()) {}  // only valid during the call
    // From std::span, std::array or any other container for which std::data and std::size work.
    template <class Values, class = decltype(static_cast<const T*>(std::data(std::declval<const Values&>())))>
    Span(const Values& values) : Span(std::data(values), std::size(values)) {}

    const T* data() const { return data_; }
    std::size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    const T& operator[](std::size_t k) const { return data_[k]; }
    const T* begin() const { return data_; }
    const T* end() const { return data_ + size_; }

  private:
    const T* data_ = nullptr;
    std::size_t size_ = 0;
};

// RGB image of the caller, (height, width, 3) uint8, or condition with a mask, (height, width, 4) uint8. It points to
// pixels of the caller, which are read during a call only.
using Image = caflow_image;
using Images = Span<Image>;

// Return an Image that points to RGB pixels of the caller. `stride` is the number of bytes from the start of one row to
// the start of the next; 0 means rows without gaps. `channels` is 4 for conditions with a mask: see caflow_image.
inline Image view(const std::uint8_t* rgb, std::size_t height, std::size_t width, std::size_t stride = 0,
                  std::size_t channels = 3) {
    return {rgb, height, width, stride ? stride : channels * width, channels};
}

// Verdict on a result: CAFLOW_UNJUDGED … CAFLOW_BICUBIC.
enum class Outcome : std::uint32_t {
    unjudged = CAFLOW_UNJUDGED,
    accepted = CAFLOW_ACCEPTED,
    rejected = CAFLOW_REJECTED,
    bicubic = CAFLOW_BICUBIC
};

// One (image, sample) pair, one scored image, or one frame. The methods return the fields of caflow_result; where a
// pointer is NULL, a span or text is empty. A Result is a view that is valid as long as the Results that it comes from.
class Result {
  public:
    explicit Result(const caflow_result* result) : result_(result) {}

    std::size_t image() const { return result_->image; }
    std::uint32_t sample() const { return result_->sample; }
    std::size_t height() const { return result_->height; }
    std::size_t width() const { return result_->width; }
    Span<std::uint8_t> rgb() const { return of(result_->rgb, 3); }
    double log_likelihood() const { return result_->log_likelihood; }
    Span<double> per_level() const { return {result_->per_level, result_->levels}; }
    double bits_per_dim() const { return result_->bits_per_dim; }
    double consistency() const { return result_->consistency; }
    // Whether the result is a sample; false for an enlarged condition.
    bool has_sample() const { return result_->sample != CAFLOW_NO_SAMPLE; }
    bool starts_scene() const { return result_->starts_scene; }
    Outcome outcome() const { return static_cast<Outcome>(result_->outcome); }
    std::uint32_t rejected() const { return result_->rejected; }
    std::string reason() const { return result_->reason ? result_->reason : ""; }
    double sample_typicality() const { return result_->sample_typicality; }
    double image_typicality() const { return result_->image_typicality; }
    Span<double> level_typicality() const { return of_levels(result_->level_typicality); }
    Span<double> level_residuals() const { return of_levels(result_->level_residuals); }
    Span<float> pixels() const { return of(result_->pixels, 3); }
    Span<float> log_likelihood_map() const { return of(result_->log_likelihood_map, 1); }

    // Return the result's image as an argument for another call. It is valid as long as the Results.
    Image view() const { return caflow::view(result_->rgb, height(), width()); }

  private:
    template <class T>
    Span<T> of(const T* data, std::size_t channels) const {
        return data ? Span<T>(data, height() * width() * channels) : Span<T>();
    }

    Span<double> of_levels(const double* data) const {
        return data ? Span<double>(data, result_->levels) : Span<double>();
    }

    const caflow_result* result_;
};

// All results of one call. The object owns them and frees them when it is destroyed.
class Results {
  public:
    // Take ownership of the results of a call of caflow.h.
    explicit Results(caflow_results* results) : results_(results, caflow_free_results) {}

    class Iterator {
      public:
        explicit Iterator(const caflow_result* const* at) : at_(at) {}
        Result operator*() const { return Result(*at_); }
        Iterator& operator++() {
            ++at_;
            return *this;
        }
        bool operator!=(const Iterator& other) const { return at_ != other.at_; }

      private:
        const caflow_result* const* at_;
    };

    std::size_t size() const { return results_->count; }
    Result operator[](std::size_t k) const { return Result(results_->result[k]); }
    Iterator begin() const { return Iterator(results_->result); }
    Iterator end() const { return Iterator(results_->result + size()); }

  private:
    std::unique_ptr<caflow_results, decltype(&caflow_free_results)> results_;
};

// Options of Model: the fields of caflow_open_options, where an empty text or 0 has the default value.
struct OpenOptions {
    std::string backend = "auto";
    std::string engine_cache;
    std::uint64_t pixel_budget = 0;
    std::int64_t overlap = 0;  // in target pixels; CAFLOW_NO_OVERLAP: tiles do not overlap
    std::uint32_t threads = 0;
    bool with_calibration = true;     // false: CAFLOW_WITHOUT_CALIBRATION
    std::string plugin_library = {};  // path, for the backends tensorrt-rtx and ort:NAME
};

// How the samples of an image are ranked: CAFLOW_RANK_….
enum class Rank : std::uint32_t {
    of_bundle = CAFLOW_RANK_OF_BUNDLE,
    likelihood = CAFLOW_RANK_LIKELIHOOD,
    consistency = CAFLOW_RANK_CONSISTENCY,
    typical = CAFLOW_RANK_TYPICAL
};
// Which typicality decides whether a sample is rejected: CAFLOW_JUDGE_….
enum class Judge : std::uint32_t { sample = CAFLOW_JUDGE_SAMPLE, image = CAFLOW_JUDGE_IMAGE };
// The result for an image if all of its samples are rejected: CAFLOW_OTHERWISE_….
enum class Otherwise : std::uint32_t {
    keep = CAFLOW_OTHERWISE_KEEP,
    bicubic = CAFLOW_OTHERWISE_BICUBIC,
    drop = CAFLOW_OTHERWISE_DROP
};

// Function that receives the number of finished windows and the number of all windows, and returns whether to continue.
using Progress = std::function<bool(std::uint64_t done, std::uint64_t count)>;

// Options of a draw: the fields of caflow_draw_options, where 0 and an empty vector have the default value.
struct DrawOptions {
    std::uint32_t n = 0;
    std::uint32_t first_sample = 0;
    std::uint32_t seed = 0;
    std::uint32_t frame = 0;
    std::vector<double> temperature;  // one for all levels, or one per level, coarsest first
    std::vector<std::uint32_t> keep;  // one number of samples per level, coarsest first
    Rank rank = Rank::of_bundle;
    double min_typicality = 0;
    Judge judge = Judge::sample;
    Otherwise otherwise = Otherwise::keep;
    std::uint32_t redraws = 0;  // CAFLOW_NO_REDRAWS: none
    bool consistent = false;
    bool with_pixels = false;           // CAFLOW_WITH_PIXELS
    bool with_likelihood_maps = false;  // CAFLOW_WITH_LIKELIHOOD_MAPS
    // Called after each batch. If it returns false, the call throws Stopped. If it throws an exception, the call stops
    // and throws the same exception.
    Progress progress;
};

// The noise of a stream's frames: CAFLOW_NOISE_….
enum class FrameNoise : std::uint32_t {
    fixed = CAFLOW_NOISE_FIXED,
    fresh = CAFLOW_NOISE_FRESH,
    drifting = CAFLOW_NOISE_DRIFTING
};

// Options of a stream: the fields of caflow_stream_options.
struct StreamOptions {
    FrameNoise noise = FrameNoise::fixed;
    double persistence = 0;  // for FrameNoise::drifting: above 0 and below 1
};

// Connects a Progress with caflow_draw_options. An exception must not pass through C, so it is kept until the call ends.
class ProgressInC {
  public:
    ProgressInC() = default;
    explicit ProgressInC(const Progress& progress) : progress_(progress) {}

    // Let the options call the function. They point to this object.
    void add_to(caflow_draw_options& options) {
        if (!progress_) return;
        options.progress = call;
        options.user = this;
    }

    // Throw the exception of the function, or else the exception that belongs to the status of the call.
    void check(caflow_status status) {
        if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
        caflow::check(status);
    }

  private:
    static int call(void* user, std::uint64_t done, std::uint64_t count) noexcept {
        auto* self = static_cast<ProgressInC*>(user);
        try {
            return !self->progress_(done, count);
        } catch (...) {
            self->thrown_ = std::current_exception();
            return 1;
        }
    }

    Progress progress_;
    std::exception_ptr thrown_;
};

// A video that is drawn frame by frame. Model::open_stream creates it, and it may outlive the model. Only one thread at
// a time may use it.
class Stream {
  public:
    // Take ownership of a stream of caflow.h, and of the progress that its options point to.
    explicit Stream(caflow_stream* stream, std::unique_ptr<ProgressInC> progress = std::make_unique<ProgressInC>())
        : progress_(std::move(progress)), stream_(stream, caflow_close_stream) {}

    // Draw the next frame: one result. See caflow_draw_frame.
    Results draw(const Image& frame) {
        caflow_results* results = nullptr;
        progress_->check(caflow_draw_frame(stream_.get(), &frame, &results));
        return Results(results);
    }

  private:
    std::unique_ptr<ProgressInC> progress_;
    std::unique_ptr<caflow_stream, decltype(&caflow_close_stream)> stream_;
};

// A model that is ready to run. Any number of threads may use it at the same time. All methods throw subclasses of
// Error, and exceptions of DrawOptions::progress.
class Model {
  public:
    // Open the bundle in a folder. See caflow_open.
    explicit Model(const std::string& folder, const OpenOptions& options = {}) : model_(nullptr, caflow_close) {
        caflow_open_options c_options = CAFLOW_OPEN_OPTIONS_INIT;
        c_options.backend = options.backend.c_str();
        c_options.engine_cache = options.engine_cache.empty() ? nullptr : options.engine_cache.c_str();
        c_options.pixel_budget = options.pixel_budget;
        c_options.overlap = options.overlap;
        c_options.threads = options.threads;
        c_options.plugin_library = options.plugin_library.empty() ? nullptr : options.plugin_library.c_str();
        if (!options.with_calibration) c_options.flags = CAFLOW_WITHOUT_CALIBRATION;
        caflow_model* model = nullptr;
        check(caflow_open(folder.c_str(), &c_options, &model));
        model_.reset(model);
    }

    // Return facts about the model. The texts are valid as long as the model. See caflow_info.
    caflow_model_info info() const {
        caflow_model_info info = CAFLOW_MODEL_INFO_INIT;
        check(caflow_info(model_.get(), &info));
        return info;
    }

    // Stop the calls and streams that use the model, or let them work again. See caflow_set_stopped.
    void set_stopped(bool stopped) const { caflow_set_stopped(model_.get(), stopped); }

    // Return the best of N samples of each condition, in the order of the conditions. See caflow_best_of.
    Results best_of(Images conditions, const DrawOptions& options = {}) const {
        return draw(caflow_best_of, conditions, options);
    }

    // Return all N samples of each condition, the best sample of each condition first. See caflow_sample.
    Results sample(Images conditions, const DrawOptions& options = {}) const {
        return draw(caflow_sample, conditions, options);
    }

    // Return the log-likelihood of existing targets, one result for each pair. See caflow_score.
    Results score(Images targets, Images conditions, bool with_likelihood_maps = false) const {
        check_pairs(targets, conditions);
        const std::uint32_t flags = with_likelihood_maps ? CAFLOW_WITH_LIKELIHOOD_MAPS : 0;
        caflow_results* results = nullptr;
        check(caflow_score(model_.get(), targets.data(), conditions.data(), targets.size(), flags, &results));
        return Results(results);
    }

    // Return the log-likelihood of existing targets and a verdict on each of them. See caflow_judge.
    Results judge(Images targets, Images conditions, double min_typicality, bool with_likelihood_maps = false) const {
        check_pairs(targets, conditions);
        const std::uint32_t flags = with_likelihood_maps ? CAFLOW_WITH_LIKELIHOOD_MAPS : 0;
        caflow_results* results = nullptr;
        check(caflow_judge(model_.get(), targets.data(), conditions.data(), targets.size(), min_typicality, flags,
                           &results));
        return Results(results);
    }

    // Open a stream for the frames of one video. The stream may outlive the model. See caflow_open_stream.
    Stream open_stream(const DrawOptions& draw = {}, const StreamOptions& options = {}) const {
        auto progress = std::make_unique<ProgressInC>(draw.progress);
        const caflow_draw_options c_draw = as_c(draw, *progress);
        caflow_stream_options c_options = CAFLOW_STREAM_OPTIONS_INIT;
        c_options.noise = static_cast<std::uint32_t>(options.noise);
        c_options.persistence = options.persistence;
        caflow_stream* stream = nullptr;
        check(caflow_open_stream(model_.get(), &c_draw, &c_options, &stream));
        return Stream(stream, std::move(progress));
    }

  private:
    static void check_pairs(Images targets, Images conditions) {
        if (targets.size() == conditions.size()) return;
        throw InputError("conditions: expected one for each target; got " + std::to_string(targets.size()) +
                         " targets and " + std::to_string(conditions.size()) + " conditions");
    }

    // Return the options as a struct of caflow.h. It points into the arguments, so it is valid as long as they are.
    static caflow_draw_options as_c(const DrawOptions& options, ProgressInC& progress) {
        caflow_draw_options c_options = CAFLOW_DRAW_OPTIONS_INIT;
        c_options.n = options.n;
        c_options.first_sample = options.first_sample;
        c_options.seed = options.seed;
        c_options.frame = options.frame;
        c_options.temperature = options.temperature.data();
        c_options.temperatures = options.temperature.size();
        c_options.keep = options.keep.data();
        c_options.keeps = options.keep.size();
        c_options.rank = static_cast<std::uint32_t>(options.rank);
        c_options.min_typicality = options.min_typicality;
        c_options.judge = static_cast<std::uint32_t>(options.judge);
        c_options.otherwise = static_cast<std::uint32_t>(options.otherwise);
        c_options.redraws = options.redraws;
        c_options.consistent = options.consistent;
        if (options.with_pixels) c_options.flags |= CAFLOW_WITH_PIXELS;
        if (options.with_likelihood_maps) c_options.flags |= CAFLOW_WITH_LIKELIHOOD_MAPS;
        progress.add_to(c_options);
        return c_options;
    }

    Results draw(decltype(&caflow_best_of) function, Images conditions, const DrawOptions& options) const {
        ProgressInC progress(options.progress);
        const caflow_draw_options c_options = as_c(options, progress);
        caflow_results* results = nullptr;
        progress.check(function(model_.get(), conditions.data(), conditions.size(), &c_options, &results));
        return Results(results);
    }

    std::unique_ptr<caflow_model, decltype(&caflow_close)> model_;
};

}  // namespace caflow

#endif
