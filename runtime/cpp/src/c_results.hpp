// Results of the C interface, together with the memory that their pointers refer to.
#pragma once

#include <caflow/caflow.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <numbers>
#include <numeric>
#include <utility>
#include <vector>

#include "choice.hpp"
#include "stream.hpp"
#include "tiles.hpp"

namespace caflow::runtime {

static_assert(CAFLOW_NO_SAMPLE == no_sample);
static_assert(CAFLOW_ACCEPTED == int(Outcome::accepted) && CAFLOW_REJECTED == int(Outcome::rejected) &&
              CAFLOW_BICUBIC == int(Outcome::bicubic));

// A result of the C interface that owns everything its pointers refer to.
struct OwnedResult : caflow_result {
    OwnedResult(Result&& result, bool with_map) : caflow_result(), owned(std::move(result)) {
        const BatchItem& item = owned.item;
        if (with_map) map = map_per_pixel(item.maps, owned.image.height, owned.image.width);
        image = item.image;
        sample = item.sample;
        levels = std::uint32_t(item.per_level.size());
        height = std::size_t(owned.image.height);
        width = std::size_t(owned.image.width);
        rgb = owned.image.values.empty() ? nullptr : owned.image.values.data();
        log_likelihood = std::accumulate(item.per_level.begin(), item.per_level.end(), 0.0);
        per_level = item.per_level.data();
        bits_per_dim = -log_likelihood / (double(item.dims) * std::numbers::ln2);
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
        pixels = item.pixels.empty() ? nullptr : item.pixels.data();
        log_likelihood_map = map.empty() ? nullptr : map.data();
        owned.item.maps.clear();
    }

    Result owned;
    std::vector<float> map;
};

// All results of one call. caflow_free_results deletes it.
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

}  // namespace caflow::runtime
