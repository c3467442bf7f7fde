#include <caflow/caflow.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <string>

#include "c_options.hpp"
#include "c_results.hpp"
#include "errors.hpp"
#include "pipeline.hpp"

struct caflow_model {
    std::shared_ptr<caflow::runtime::Pipeline> pipeline;
};

struct caflow_stream {
    std::shared_ptr<caflow::runtime::Pipeline> pipeline;  // keeps the model open after caflow_close
    caflow::runtime::Stream stream;
    std::uint32_t flags;
};

namespace {

using namespace caflow::runtime;

thread_local std::string last_error;

// Names of files and graphs may have bytes that are not UTF-8. Writing them as JSON replaces them by U+FFFD.
std::string as_utf8(const char* message) {
    const std::string text = nlohmann::json(message).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    return nlohmann::json::parse(text).get<std::string>();
}

caflow_status failed(caflow_status status, const char* message) noexcept {
    try {
        last_error = as_utf8(message);
    } catch (const std::bad_alloc&) {
        last_error.clear();
    }
    return status;
}

// Run `body`. Turn an exception into a status and keep its message as the thread's last error.
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
    } catch (const Stopped& error) {
        return failed(CAFLOW_ERROR_STOPPED, error.what());
    } catch (const OutOfMemory& error) {
        return failed(CAFLOW_ERROR_OUT_OF_MEMORY, error.what());
    } catch (const std::bad_alloc&) {
        return failed(CAFLOW_ERROR_OUT_OF_MEMORY, "memory ran out");
    } catch (const std::exception& error) {
        return failed(CAFLOW_ERROR_INTERNAL, error.what());
    } catch (...) {
        return failed(CAFLOW_ERROR_INTERNAL, "internal error: an exception of an unknown type");
    }
}

using Method = std::vector<Result> (Pipeline::*)(const std::vector<Image>&, const DrawOptions&);

caflow_status draw(caflow_model* model, const caflow_image* conditions, std::size_t count,
                   const caflow_draw_options* options, caflow_results** results, Method method) noexcept {
    return guarded([&] {
        check_given(results, "results");
        *results = nullptr;
        check_given(model, "model");
        const caflow_draw_options known = read_draw_options(options);
        Pipeline& pipeline = *model->pipeline;
        const Model& numbers = pipeline.manifest().model;
        const std::vector<Image> images = read_conditions(conditions, count, numbers, "conditions");
        const DrawOptions config = draw_of(known, numbers.sampling);
        *results = new OwnedResults((pipeline.*method)(images, config), known.flags);
    });
}

void score(caflow_model* model, const caflow_image* targets, const caflow_image* conditions, std::size_t count,
           double min_typicality, std::uint32_t flags, caflow_results** results) {
    check_given(results, "results");
    *results = nullptr;
    check_given(model, "model");
    check_flags(flags, CAFLOW_WITH_LIKELIHOOD_MAPS);
    Pipeline& pipeline = *model->pipeline;
    const std::vector<Image> given = read_targets(targets, count, "targets");
    const std::vector<Image> images = read_conditions(conditions, count, pipeline.manifest().model, "conditions");
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
        *model = new caflow_model{std::make_shared<Pipeline>(folder, read_settings(options))};
    });
}

void caflow_close(caflow_model* model) { delete model; }

void caflow_set_stopped(caflow_model* model, int stopped) {
    if (model) model->pipeline->set_stopped(stopped != 0);
}

caflow_status caflow_info(const caflow_model* model, caflow_model_info* info) {
    return guarded([&] {
        check_given(model, "model");
        check_given(info, "info");
        const Manifest& manifest = model->pipeline->manifest();
        const Model& numbers = manifest.model;
        const caflow_model_info known{info->struct_size,
                                      numbers.task.c_str(),
                                      numbers.description.c_str(),
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
        if (!(min_typicality > 0)) {
            throw InputError("min_typicality must be above 0 and below 1; got " + shown(min_typicality));
        }
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
        const FrameNoise noise = read_frame_noise(options);
        const std::shared_ptr<Pipeline>& pipeline = model->pipeline;
        const DrawOptions config = draw_of(known, pipeline->manifest().model.sampling);
        *stream = new caflow_stream{pipeline, pipeline->open_stream(config, noise), known.flags};
    });
}

caflow_status caflow_draw_frame(caflow_stream* stream, const caflow_image* frame, caflow_results** results) {
    return guarded([&] {
        check_given(results, "results");
        *results = nullptr;
        check_given(stream, "stream");
        const std::vector<Image> images = read_conditions(frame, 1, stream->pipeline->manifest().model, "frame");
        *results = new OwnedResults(stream->stream.draw(images[0]), stream->flags);
    });
}

void caflow_close_stream(caflow_stream* stream) { delete stream; }

void caflow_free_results(caflow_results* results) { delete static_cast<OwnedResults*>(results); }

}  // extern "C"
