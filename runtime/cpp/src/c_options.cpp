#include "c_options.hpp"

#include <algorithm>
#include <cstring>

namespace caflow::runtime {

namespace {

constexpr std::size_t largest_side = 1 << 20;  // of a target, so that areas fit in 64 bits
constexpr std::uint64_t largest_budget = 1ULL << 40;
constexpr std::size_t largest_stride = 1 << 30;
constexpr std::size_t most_images = 1 << 20;        // of one call
constexpr std::size_t most_given_levels = 64;       // more levels than any model has
constexpr std::uint32_t largest_samples = 1 << 20;  // of one call, which stores the numbers of all samples

// The structs must have no padding at their ends. If a later version added a field in such padding, it would read
// arbitrary values from structs of older applications.
static_assert(sizeof(caflow_open_options) == offsetof(caflow_open_options, plugin_library) + sizeof(const char*));
static_assert(sizeof(caflow_draw_options) == offsetof(caflow_draw_options, user) + sizeof(void*));
static_assert(sizeof(caflow_stream_options) == offsetof(caflow_stream_options, flags) + sizeof(std::uint32_t));
static_assert(CAFLOW_RANK_LIKELIHOOD == int(Rank::likelihood) && CAFLOW_RANK_CONSISTENCY == int(Rank::consistency) &&
              CAFLOW_RANK_TYPICAL == int(Rank::typical));
static_assert(CAFLOW_JUDGE_IMAGE == int(Reject::Judge::image));
static_assert(CAFLOW_OTHERWISE_BICUBIC == int(Reject::Otherwise::bicubic) &&
              CAFLOW_OTHERWISE_DROP == int(Reject::Otherwise::drop));

// Return the application's struct, which may be of an older or a newer version, as a struct of this version.
template <class Options>
Options read_options(const Options* given, const Options& defaults, const char* what) {
    if (!given) return defaults;
    const std::size_t size = given->struct_size;
    check_struct_size<Options>(size, what);
    const auto* bytes = reinterpret_cast<const unsigned char*>(given);
    for (std::size_t k = sizeof(Options); k < size; ++k) {
        if (!bytes[k]) continue;
        throw InputError(std::string(what) +
                         " has a field that this version of the library does not know: use a "
                         "newer library");
    }
    Options options = defaults;
    std::memcpy(&options, given, std::min(size, sizeof(Options)));
    return options;
}

template <class T>
T or_default(T value, T otherwise) {
    return value ? value : otherwise;
}

void check_count(std::size_t count, std::size_t most, const char* name) {
    if (count <= most) return;
    throw InputError(std::string(name) + ": the number must be at most " + std::to_string(most) + "; got " +
                     std::to_string(count));
}

void check_one_of(std::uint32_t value, std::uint32_t largest, const char* name) {
    if (value <= largest) return;
    throw InputError(std::string(name) + " must be one of the constants of caflow.h, up to " + std::to_string(largest) +
                     "; got " + std::to_string(value));
}

Progress progress_of(const caflow_draw_options& options) {
    if (!options.progress) return {};
    return [call = options.progress, user = options.user](std::uint64_t done, std::uint64_t count) {
        if (call(user, done, count)) throw Stopped("the function `progress` of the options stopped the call");
    };
}

void check_channels(std::size_t given, std::int64_t expected, const std::string& name) {
    if (given == std::size_t(expected)) return;
    const bool has_mask = expected > target_channels;
    throw InputError(name + " must have " + std::to_string(expected) + " channels, " +
                     (has_mask ? "a first guess of the target and a mask of what is known of it" : "RGB") + "; got " +
                     std::to_string(given) + ": " +
                     (has_mask ? "Pipeline.prepare of Python makes them; or fill the hole of an RGB image, and append "
                                 "the mask, 255 where the image is known and 0 in the hole"
                               : "leave out an alpha channel or a mask"));
}

std::vector<Image> read_images(const caflow_image* given, std::size_t count, std::size_t largest,
                               std::int64_t channels, const char* what) {
    if (!count) throw InputError(std::string(what) + ": expected at least one image; got none");
    check_given(given, what);
    check_count(count, most_images, what);
    const auto pixel_bytes = std::size_t(channels);
    std::vector<Image> images;
    for (std::size_t k = 0; k < count; ++k) {
        const caflow_image& one = given[k];
        const std::string name = what + ("[" + std::to_string(k)) + "]";
        check_given(one.rgb, (name + ".rgb").c_str());
        check_channels(or_default(one.channels, std::size_t(target_channels)), channels, name);
        if (!one.height || !one.width || one.height > largest || one.width > largest ||
            one.stride < pixel_bytes * one.width || one.stride > largest_stride) {
            throw InputError(name + " must have sides from 1 to " + std::to_string(largest) + " and a stride from " +
                             std::to_string(channels) + " * width to 2^30 bytes; got height " +
                             std::to_string(one.height) + ", width " + std::to_string(one.width) + ", stride " +
                             std::to_string(one.stride));
        }
        Image image(std::int64_t(one.height), std::int64_t(one.width), channels);
        for (std::size_t y = 0; y < one.height; ++y) {
            std::memcpy(image.row(std::int64_t(y)), one.rgb + y * one.stride, pixel_bytes * one.width);
        }
        images.push_back(std::move(image));
    }
    return images;
}

}  // namespace

void check_flags(std::uint32_t flags, std::uint32_t known) {
    if (flags & ~known)
        throw InputError("flags must contain only flags that this call supports; got " + std::to_string(flags));
}

Settings read_settings(const caflow_open_options* given) {
    const caflow_open_options options = read_options(given, caflow_open_options CAFLOW_OPEN_OPTIONS_INIT, "options");
    check_flags(options.flags, CAFLOW_WITHOUT_CALIBRATION);
    if (options.pixel_budget > largest_budget || options.overlap < CAFLOW_NO_OVERLAP ||
        options.overlap > std::int64_t(largest_side) || options.threads > 1024) {
        throw InputError(
            "options: pixel_budget must be at most 2^40, overlap CAFLOW_NO_OVERLAP or from 0 to 2^20, and threads at "
            "most 1024; got " +
            std::to_string(options.pixel_budget) + ", " + std::to_string(options.overlap) + ", " +
            std::to_string(options.threads));
    }
    Settings settings;
    if (options.backend) settings.backend = options.backend;
    if (options.engine_cache) settings.engine_cache = options.engine_cache;
    if (options.plugin_library) settings.plugin_library = options.plugin_library;
    settings.threads = int(options.threads);
    settings.is_calibrated = !(options.flags & CAFLOW_WITHOUT_CALIBRATION);
    settings.pixel_budget = or_default(std::int64_t(options.pixel_budget), settings.pixel_budget);
    settings.overlap = options.overlap == CAFLOW_NO_OVERLAP ? 0 : or_default(options.overlap, settings.overlap);
    return settings;
}

caflow_draw_options read_draw_options(const caflow_draw_options* options) {
    const caflow_draw_options known = read_options(options, caflow_draw_options CAFLOW_DRAW_OPTIONS_INIT, "options");
    check_flags(known.flags, CAFLOW_WITH_PIXELS | CAFLOW_WITH_LIKELIHOOD_MAPS);
    return known;
}

DrawOptions draw_of(const caflow_draw_options& options, const Sampling& own) {
    check_one_of(options.rank, CAFLOW_RANK_TYPICAL, "rank");
    check_one_of(options.judge, CAFLOW_JUDGE_IMAGE, "judge");
    check_one_of(options.otherwise, CAFLOW_OTHERWISE_DROP, "otherwise");
    check_one_of(options.consistent, 1, "consistent");
    if (options.redraws != CAFLOW_NO_REDRAWS) check_count(options.redraws, largest_samples, "redraws");
    check_count(options.temperatures, most_given_levels, "temperatures");
    check_count(options.keeps, most_given_levels, "keeps");
    if (options.temperatures) check_given(options.temperature, "temperature");
    if (options.keeps) check_given(options.keep, "keep");
    if (options.n > largest_samples) {
        throw InputError("n must be at most 2^20; got " + std::to_string(options.n));
    }
    DrawOptions draw;
    draw.n = or_default(options.n, draw.n);
    draw.first_sample = options.first_sample;
    draw.seed = options.seed;
    draw.frame = options.frame;
    draw.temperature = {own.temperature};
    if (options.temperatures) draw.temperature.assign(options.temperature, options.temperature + options.temperatures);
    if (options.keeps) draw.keep.assign(options.keep, options.keep + options.keeps);
    draw.rank = options.keeps ? Rank::likelihood : own.rank;
    if (options.rank) draw.rank = Rank(options.rank);
    draw.consistent = options.consistent;
    draw.reject.min_typicality = options.min_typicality;
    draw.reject.judge = Reject::Judge(options.judge);
    draw.reject.otherwise = Reject::Otherwise(options.otherwise);
    draw.reject.redraws = options.redraws == CAFLOW_NO_REDRAWS ? 0 : or_default(options.redraws, draw.reject.redraws);
    draw.with_pixels = options.flags & CAFLOW_WITH_PIXELS;
    draw.progress = progress_of(options);
    return draw;
}

FrameNoise read_frame_noise(const caflow_stream_options* given) {
    const caflow_stream_options options =
        read_options(given, caflow_stream_options CAFLOW_STREAM_OPTIONS_INIT, "options");
    check_flags(options.flags, 0);
    switch (options.noise) {
        case CAFLOW_NOISE_FIXED:
            return {FrameNoise::Kind::fixed, 0};
        case CAFLOW_NOISE_FRESH:
            return {FrameNoise::Kind::fresh, 0};
        case CAFLOW_NOISE_DRIFTING:
            return {FrameNoise::Kind::drifting, options.persistence};
        default:
            throw InputError("noise must be one of CAFLOW_NOISE_…; got " + std::to_string(options.noise));
    }
}

std::vector<Image> read_targets(const caflow_image* given, std::size_t count, const char* what) {
    return read_images(given, count, largest_side, target_channels, what);
}

std::vector<Image> read_conditions(const caflow_image* given, std::size_t count, const Model& model, const char* what) {
    return read_images(given, count, largest_side / std::size_t(model.scale), model.condition_channels, what);
}

}  // namespace caflow::runtime
