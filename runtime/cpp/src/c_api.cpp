#include <caflow/caflow.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <numbers>
#include <numeric>
#include <string>

#include "errors.hpp"
#include "pipeline.hpp"

struct caflow_model {
    std::shared_ptr<caflow::runtime::Pipeline> pipeline;
};

struct caflow_stream {
    std::shared_ptr<caflow::runtime::Pipeline> pipeline;  // outlives the model's handle
    caflow::runtime::Stream stream;
    std::uint32_t flags;
};

namespace {

using namespace caflow::runtime;

constexpr std::size_t largest_side = 1 << 20;  // of a target, so that areas fit 64 bits
constexpr std::uint64_t largest_budget = 1ULL << 40;
constexpr std::size_t largest_stride = 1 << 30;
constexpr std::size_t most_images = 1 << 20;  // of one call
constexpr std::size_t most_levels = 64;       // more than any model has
constexpr std::uint32_t largest_samples = 1 << 20;  // of one call, all of whose numbers are held

// A field in what is padding today would be read where an older application left anything.
static_assert(sizeof(caflow_open_options) == offsetof(caflow_open_options, flags) + sizeof(std::uint32_t));
static_assert(sizeof(caflow_draw_options) == offsetof(caflow_draw_options, consistent) + sizeof(std::uint32_t));
static_assert(sizeof(caflow_stream_options) == offsetof(caflow_stream_options, flags) + sizeof(std::uint32_t));
static_assert(CAFLOW_NO_SAMPLE == no_sample);
static_assert(CAFLOW_RANK_TYPICAL == int(Rank::typical) && CAFLOW_RANK_CONSISTENCY == int(Rank::consistency));
static_assert(CAFLOW_JUDGE_IMAGE == int(Reject::Judge::image));
static_assert(CAFLOW_OTHERWISE_BICUBIC == int(Reject::Otherwise::bicubic) &&
              CAFLOW_OTHERWISE_ERROR == int(Reject::Otherwise::error));
static_assert(CAFLOW_ACCEPTED == int(Outcome::accepted) && CAFLOW_BEST == int(Outcome::best) &&
              CAFLOW_BICUBIC == int(Outcome::bicubic) && CAFLOW_REJECTED == int(Outcome::rejected));

thread_local std::string last_error;

caflow_status failed(caflow_status status, const char* message) noexcept {
    try {
        last_error = message;
    } catch (const std::bad_alloc&) {
        last_error.clear();
    }
    return status;
}

// Runs `body`; what it throws becomes a status.
template <class Body>
caflow_status guarded(Body body) noexcept {
    try {
        body();
        return CAFLOW_OK;
    } catch (const InputError& error) {
        return failed(CAFLOW_ERROR_INPUT, error.what());
    } catch (const BundleError& error) {
        return failed(CAFLOW_ERROR_BUNDLE, error.what());
    } catch (const BackendError& error) {
        return failed(CAFLOW_ERROR_BACKEND, error.what());
    } catch (const NotFinite& error) {
        return failed(CAFLOW_ERROR_NOT_FINITE, error.what());
    } catch (const Untypical& error) {
        return failed(CAFLOW_ERROR_UNTYPICAL, error.what());
    } catch (const OutOfMemory& error) {
        return failed(CAFLOW_ERROR_OUT_OF_MEMORY, error.what());
    } catch (const std::bad_alloc&) {
        return failed(CAFLOW_ERROR_OUT_OF_MEMORY, "memory ran out");
    } catch (const std::exception& error) {
        return failed(CAFLOW_ERROR_INTERNAL, error.what());
    } catch (...) {
        return failed(CAFLOW_ERROR_INTERNAL, "an exception of an unknown type");
    }
}

// Fields are no larger than the struct's alignment, so a size that is a multiple of it ends at the end of a field.
template <class Options>
void check_struct_size(std::size_t size, const char* what) {
    if (size >= sizeof(std::size_t) && size <= 16 * sizeof(Options) && size % alignof(Options) == 0) return;
    throw InputError(std::string(what) + ": wanted struct_size set to the struct's sizeof, got " +
                     std::to_string(size) + ": begin with the macro CAFLOW_…_INIT");
}

// A struct of the application, which may be of an older or a newer version, as one of this version.
template <class Options>
Options read_options(const Options* given, const Options& defaults, const char* what) {
    if (!given) return defaults;
    const std::size_t size = given->struct_size;
    check_struct_size<Options>(size, what);
    const auto* bytes = reinterpret_cast<const unsigned char*>(given);
    for (std::size_t k = sizeof(Options); k < size; ++k) {
        if (!bytes[k]) continue;
        throw InputError(std::string(what) + ": got a field that this version does not know: use a newer library");
    }
    Options options = defaults;
    std::memcpy(&options, given, std::min(size, sizeof(Options)));
    return options;
}

template <class T>
T or_default(T value, T otherwise) {
    return value ? value : otherwise;
}

template <class Pointer>
void check_given(Pointer pointer, const char* name) {
    if (!pointer) throw InputError(std::string(name) + ": wanted a pointer, got NULL");
}

void check_count(std::size_t count, std::size_t most, const char* name) {
    if (count <= most) return;
    throw InputError(std::string(name) + ": wanted up to " + std::to_string(most) + ", got " + std::to_string(count));
}

void check_flags(std::uint32_t flags, std::uint32_t known) {
    if (flags & ~known) throw InputError("flags: got one that is not known here, in " + std::to_string(flags));
}

void check_one_of(std::uint32_t value, std::uint32_t largest, const char* name) {
    if (value <= largest) return;
    throw InputError(std::string(name) + ": wanted one of the constants of caflow.h, up to " +
                     std::to_string(largest) + ", got " + std::to_string(value));
}

Settings settings_of(const caflow_open_options& options) {
    check_flags(options.flags, CAFLOW_WITHOUT_CALIBRATION);
    if (options.pixel_budget > largest_budget || options.overlap < CAFLOW_NO_OVERLAP ||
        options.overlap > std::int64_t(largest_side) || options.threads > 1024) {
        throw InputError(
            "options: wanted a pixel_budget up to 2^40, an overlap up to 2^20 and up to 1024 threads, got " +
            std::to_string(options.pixel_budget) + ", " + std::to_string(options.overlap) + ", " +
            std::to_string(options.threads));
    }
    Settings settings;
    if (options.backend) settings.backend = options.backend;
    if (options.engine_cache) settings.engine_cache = options.engine_cache;
    settings.threads = int(options.threads);
    settings.is_calibrated = !(options.flags & CAFLOW_WITHOUT_CALIBRATION);
    settings.pixel_budget = or_default(std::int64_t(options.pixel_budget), settings.pixel_budget);
    settings.overlap = options.overlap == CAFLOW_NO_OVERLAP ? 0 : or_default(options.overlap, settings.overlap);
    return settings;
}

Draw draw_of(const caflow_draw_options& options) {
    check_one_of(options.rank, CAFLOW_RANK_TYPICAL, "rank");
    check_one_of(options.judge, CAFLOW_JUDGE_IMAGE, "judge");
    check_one_of(options.otherwise, CAFLOW_OTHERWISE_ERROR, "otherwise");
    check_one_of(options.consistent, 1, "consistent");
    if (options.redraws != CAFLOW_NO_REDRAWS) check_count(options.redraws, largest_samples, "redraws");
    check_count(options.temperatures, most_levels, "temperatures");
    check_count(options.keeps, most_levels, "keeps");
    if (options.temperatures) check_given(options.temperature, "temperature");
    if (options.keeps) check_given(options.keep, "keep");
    if (options.samples > largest_samples) {
        throw InputError("samples: wanted up to 2^20, got " + std::to_string(options.samples));
    }
    Draw draw;
    draw.samples = or_default(options.samples, draw.samples);
    draw.first_sample = options.first_sample;
    draw.seed = options.seed;
    draw.frame = options.frame;
    if (options.temperatures) draw.temperature.assign(options.temperature, options.temperature + options.temperatures);
    if (options.keeps) draw.keep.assign(options.keep, options.keep + options.keeps);
    draw.rank = Rank(options.rank);
    draw.consistent = options.consistent;
    draw.reject.alpha = options.min_typicality;
    draw.reject.judge = Reject::Judge(options.judge);
    draw.reject.otherwise = Reject::Otherwise(options.otherwise);
    draw.reject.redraws =
        options.redraws == CAFLOW_NO_REDRAWS ? 0 : or_default(options.redraws, draw.reject.redraws);
    draw.with_pixels = options.flags & CAFLOW_WITH_PIXELS;
    return draw;
}

FrameNoise frame_noise_of(const caflow_stream_options& options) {
    check_flags(options.flags, 0);
    switch (options.noise) {
        case CAFLOW_NOISE_FIXED:
            return {FrameNoise::Kind::fixed, 0};
        case CAFLOW_NOISE_FRESH:
            return {FrameNoise::Kind::fresh, 0};
        case CAFLOW_NOISE_DRIFTING:
            return {FrameNoise::Kind::drifting, options.persistence};
        default:
            throw InputError("noise: wanted one of CAFLOW_NOISE_…, got " + std::to_string(options.noise));
    }
}

// Images of the caller, copied. `scale`: by how much larger their targets are.
std::vector<Image> read_images(const caflow_image* given, std::size_t count, std::int64_t scale, const char* what) {
    check_given(given, what);
    if (!count) throw InputError(std::string(what) + ": wanted at least one image, got none");
    check_count(count, most_images, what);
    const std::size_t largest = largest_side / std::size_t(scale);
    std::vector<Image> images;
    for (std::size_t k = 0; k < count; ++k) {
        const caflow_image& one = given[k];
        const std::string name = what + ("[" + std::to_string(k)) + "]";
        check_given(one.rgb, name.c_str());
        if (!one.height || !one.width || one.height > largest || one.width > largest || one.stride < 3 * one.width ||
            one.stride > largest_stride) {
            throw InputError(name + ": wanted sides from 1 to " + std::to_string(largest) +
                             " and a stride of 3 width to 2^30 bytes, got height " + std::to_string(one.height) +
                             ", width " + std::to_string(one.width) + ", stride " + std::to_string(one.stride));
        }
        Image image(std::int64_t(one.height), std::int64_t(one.width));
        for (std::size_t y = 0; y < one.height; ++y) {
            std::memcpy(image.row(std::int64_t(y)), one.rgb + y * one.stride, 3 * one.width);
        }
        images.push_back(std::move(image));
    }
    return images;
}

// A result with what its pointers lead to.
struct OwnedResult : caflow_result {
    OwnedResult(Result&& result, bool with_map) : caflow_result(), owned(std::move(result)) {
        const Row& row = owned.row;
        if (with_map) map = share_map(row.shares, owned.image.height, owned.image.width);
        image = row.image;
        sample = row.sample;
        levels = std::uint32_t(row.per_level.size());
        height = std::size_t(owned.image.height);
        width = std::size_t(owned.image.width);
        rgb = owned.image.rgb.empty() ? nullptr : owned.image.rgb.data();
        log_likelihood = std::accumulate(row.per_level.begin(), row.per_level.end(), 0.0);
        per_level = row.per_level.data();
        bits_per_dim = -log_likelihood / (3.0 * double(height) * double(width) * std::numbers::ln2);
        constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
        consistency = owned.consistency.value_or(unknown);
        outcome = std::uint32_t(owned.verdict.outcome);
        rejected = owned.rejected;
        reason = owned.verdict.reason.empty() ? nullptr : owned.verdict.reason.c_str();
        sample_typicality = owned.sample_typicality ? owned.sample_typicality->value : unknown;
        image_typicality = owned.image_typicality ? owned.image_typicality->value : unknown;
        const auto& shown = owned.image_typicality ? owned.image_typicality : owned.sample_typicality;
        if (shown && !shown->residuals.empty()) {
            level_typicality = shown->per_level.data();
            level_residuals = shown->residuals.data();
        }
        pixels = row.pixels.empty() ? nullptr : row.pixels.data();
        log_likelihood_map = map.empty() ? nullptr : map.data();
        owned.row.shares.clear();
    }

    Result owned;
    std::vector<float> map;
};

struct OwnedResults : caflow_results {
    OwnedResults(std::vector<Result> results, std::uint32_t flags) : caflow_results() {
        for (Result& one : results) add(std::move(one), flags);
    }

    OwnedResults(Frame&& frame, std::uint32_t flags) : caflow_results() {
        add(std::move(frame.result), flags);
        owned.back()->image = frame.number;
        owned.back()->starts_scene = frame.starts_scene;
    }

    void add(Result&& one, std::uint32_t flags) {
        owned.push_back(std::make_unique<OwnedResult>(std::move(one), flags & CAFLOW_WITH_LIKELIHOOD_MAPS));
        pointers.push_back(owned.back().get());
        count = pointers.size();
        result = pointers.data();
    }

    std::vector<std::unique_ptr<OwnedResult>> owned;
    std::vector<const caflow_result*> pointers;
};

caflow_draw_options read_draw_options(const caflow_draw_options* options) {
    const caflow_draw_options known = read_options(options, caflow_draw_options CAFLOW_DRAW_OPTIONS_INIT, "options");
    check_flags(known.flags, CAFLOW_WITH_PIXELS | CAFLOW_WITH_LIKELIHOOD_MAPS);
    return known;
}

using Method = std::vector<Result> (Pipeline::*)(const std::vector<Image>&, const Draw&);

caflow_status draw(caflow_model* model, const caflow_image* conditions, std::size_t count,
                   const caflow_draw_options* options, caflow_results** results, Method method) noexcept {
    return guarded([&] {
        check_given(results, "results");
        *results = nullptr;
        check_given(model, "model");
        const caflow_draw_options known = read_draw_options(options);
        Pipeline& pipeline = *model->pipeline;
        const std::vector<Image> images = read_images(conditions, count, pipeline.manifest().model.scale, "conditions");
        *results = new OwnedResults((pipeline.*method)(images, draw_of(known)), known.flags);
    });
}

void score(caflow_model* model, const caflow_image* targets, const caflow_image* conditions, std::size_t count,
           double min_typicality, std::uint32_t flags, caflow_results** results) {
    check_given(results, "results");
    *results = nullptr;
    check_given(model, "model");
    check_flags(flags, CAFLOW_WITH_LIKELIHOOD_MAPS);
    Pipeline& pipeline = *model->pipeline;
    const std::vector<Image> given = read_images(targets, count, 1, "targets");
    const std::vector<Image> images = read_images(conditions, count, pipeline.manifest().model.scale, "conditions");
    *results = new OwnedResults(pipeline.score(given, images, min_typicality), flags);
}

}  // namespace

extern "C" {

const char* caflow_version(void) { return CAFLOW_VERSION; }

const char* caflow_last_error(void) { return last_error.c_str(); }

caflow_status caflow_open(const char* folder, const caflow_open_options* options, caflow_model** model) {
    return guarded([&] {
        check_given(model, "model");
        *model = nullptr;
        check_given(folder, "folder");
        const caflow_open_options known =
            read_options(options, caflow_open_options CAFLOW_OPEN_OPTIONS_INIT, "options");
        *model = new caflow_model{std::make_shared<Pipeline>(folder, settings_of(known))};
    });
}

void caflow_close(caflow_model* model) { delete model; }

caflow_status caflow_info(const caflow_model* model, caflow_model_info* info) {
    return guarded([&] {
        check_given(model, "model");
        check_given(info, "info");
        const Manifest& manifest = model->pipeline->manifest();
        const Model& numbers = manifest.model;
        const caflow_model_info known{info->struct_size,
                                      numbers.task.c_str(),
                                      manifest.precision.c_str(),
                                      model->pipeline->backend().c_str(),
                                      std::uint32_t(numbers.scale),
                                      std::uint32_t(numbers.size_multiple),
                                      std::uint32_t(numbers.levels),
                                      std::uint32_t(numbers.channels),
                                      std::uint64_t(model->pipeline->pixel_budget())};
        check_struct_size<caflow_model_info>(info->struct_size, "info");
        std::memcpy(info, &known, std::min(info->struct_size, sizeof known));
    });
}

caflow_status caflow_best_of(caflow_model* model, const caflow_image* conditions, size_t count,
                             const caflow_draw_options* options, caflow_results** results) {
    return draw(model, conditions, count, options, results, &Pipeline::best_of);
}

caflow_status caflow_sample(caflow_model* model, const caflow_image* conditions, size_t count,
                            const caflow_draw_options* options, caflow_results** results) {
    return draw(model, conditions, count, options, results, &Pipeline::sample);
}

caflow_status caflow_score(caflow_model* model, const caflow_image* targets, const caflow_image* conditions,
                           size_t count, uint32_t flags, caflow_results** results) {
    return guarded([&] { score(model, targets, conditions, count, 0, flags, results); });
}

caflow_status caflow_judge(caflow_model* model, const caflow_image* targets, const caflow_image* conditions,
                           size_t count, double min_typicality, uint32_t flags, caflow_results** results) {
    return guarded([&] {
        check_given(results, "results");
        *results = nullptr;
        if (!(min_typicality > 0)) throw InputError("min_typicality: wanted a number above 0 and below 1");
        score(model, targets, conditions, count, min_typicality, flags, results);
    });
}

caflow_status caflow_open_stream(caflow_model* model, const caflow_draw_options* draw,
                                 const caflow_stream_options* options, caflow_stream** stream) {
    return guarded([&] {
        check_given(stream, "stream");
        *stream = nullptr;
        check_given(model, "model");
        const caflow_draw_options known = read_draw_options(draw);
        const FrameNoise noise = frame_noise_of(
            read_options(options, caflow_stream_options CAFLOW_STREAM_OPTIONS_INIT, "options"));
        const std::shared_ptr<Pipeline>& pipeline = model->pipeline;
        *stream = new caflow_stream{pipeline, pipeline->open_stream(draw_of(known), noise), known.flags};
    });
}

caflow_status caflow_draw_frame(caflow_stream* stream, const caflow_image* frame, caflow_results** results) {
    return guarded([&] {
        check_given(results, "results");
        *results = nullptr;
        check_given(stream, "stream");
        const std::int64_t scale = stream->pipeline->manifest().model.scale;
        const std::vector<Image> images = read_images(frame, 1, scale, "frame");
        *results = new OwnedResults(stream->stream.draw(images[0]), stream->flags);
    });
}

void caflow_close_stream(caflow_stream* stream) { delete stream; }

void caflow_free_results(caflow_results* results) { delete static_cast<OwnedResults*>(results); }

}  // extern "C"
