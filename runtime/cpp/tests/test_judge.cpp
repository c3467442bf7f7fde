// Compares consistencies, covariates, statistics and scene cuts with those of Python, from files that
// tests/support/cpp_data.py writes.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "choice.hpp"
#include "consistency.hpp"
#include "errors.hpp"
#include "graphs.hpp"
#include "latent_statistics.hpp"
#include "scenes.hpp"
#include "typicality.hpp"

using namespace caflow::runtime;
using nlohmann::json;

namespace {

const char* data() { return std::getenv("CAFLOW_TEST_DATA"); }
bool has_none() { return !data() || !*data(); }

json read(const char* name) {
    std::ifstream file(std::string(data()) + "/" + name);
    REQUIRE(file.is_open());
    return json::parse(file);
}

Image image_of(const json& array) {
    Image image(array["shape"][0], array["shape"][1], array["shape"][2]);
    image.values = array["values"].get<std::vector<std::uint8_t>>();
    return image;
}

Graphs graphs_of(const std::string& bundle) {
    Settings settings;
    settings.backend = "cpu";
    settings.threads = 1;
    return Graphs(bundle, settings);
}

}  // namespace

TEST_SUITE_BEGIN("judge" * doctest::skip(has_none()));

TEST_CASE("consistencies are equal to Python's") {
    for (const json& one : read("consistencies.json")) {
        CAPTURE(one["bundle"].get<std::string>());
        const double ours = consistency(graphs_of(one["bundle"]), image_of(one["image"]), image_of(one["condition"]));
        CHECK(ours == doctest::Approx(one["consistency"].get<double>()).epsilon(1e-7));
    }
}

TEST_CASE("covariates of conditions are equal to Python's") {
    for (const json& one : read("consistencies.json")) {
        const Covariates ours =
            covariates(image_of(one["condition"]), read_manifest(one["bundle"].get<std::string>()).model);
        const auto wanted = one["covariates"]["values"].get<std::vector<double>>();
        REQUIRE(wanted.size() == ours.size());
        for (std::size_t k = 0; k < ours.size(); ++k) CHECK(ours[k] == doctest::Approx(wanted[k]).epsilon(1e-6));
    }
}

TEST_CASE("statistics of latents are equal to Python's, for overlapping tiles with padding") {
    const json all = read("latents.json");
    LatentStatistics statistics(all["channels"]);
    const auto axis_of = [](const json& axis) { return TileAxis{axis["start"], axis["weights"]}; };
    REQUIRE(all["windows"].size() > 4);
    for (std::size_t k = 0; k < all["windows"].size(); ++k) {
        std::vector<std::vector<float>> values;
        for (const json& z : all["latents"][k]) values.push_back(z["values"]);
        std::vector<Latents> latents;
        for (std::size_t j = 0; j < values.size(); ++j) {
            const json& shape = all["latents"][k][j]["shape"];
            latents.push_back({shape[0], shape[1], shape[2], values[j]});
        }
        statistics.add({axis_of(all["windows"][k][0]), axis_of(all["windows"][k][1])}, latents);
    }
    const std::vector<double> ours = statistics.values();
    const auto wanted = all["statistics"]["values"].get<std::vector<double>>();
    REQUIRE(ours.size() == wanted.size());
    for (std::size_t k = 0; k < ours.size(); ++k) {
        CAPTURE(k);
        CHECK(std::abs(ours[k] - wanted[k]) <= 1e-6 + 1e-6 * std::abs(wanted[k]));
    }
}

TEST_CASE("projected images are equal to Python's, up to rounding") {
    for (const json& one : read("consistencies.json")) {
        if (!one.contains("projected")) continue;
        const Image wanted = image_of(one["projected"]), condition = image_of(one["condition"]);
        const Image ours =
            project(graphs_of(one["bundle"]), one["pixels"]["values"].get<std::vector<float>>(), condition);
        REQUIRE(ours.values.size() == wanted.values.size());
        std::size_t other = 0;
        for (std::size_t k = 0; k < ours.values.size(); ++k) {
            REQUIRE(std::abs(ours.values[k] - wanted.values[k]) <= 1);
            other += ours.values[k] != wanted.values[k];
        }
        CHECK(other <= ours.values.size() / 1000);
    }
}

TEST_CASE("scene cuts are equal to Python's") {
    SceneCuts cuts;
    std::size_t count = 0;
    for (const json& one : read("scenes.json")) {
        const bool cut = cuts.is_cut(image_of(one["frame"]));
        CHECK(cut == one["cut"].get<bool>());
        count += cut;
    }
    CHECK(count == 5);
}

TEST_SUITE_END();

TEST_SUITE_BEGIN("judge");  // the same suite, for tests that need no files of Python

TEST_CASE("a reason gives words for the direction of a level and for areas that differ") {
    Typicality found;
    found.value = 0.001;
    found.residuals = {0.3, -4.2};
    CHECK(reason(found) == "softer than its input allows (bits/dim of level 1: -4.2 standard deviations)");
    found.residuals = {1.1, 2.7};
    CHECK(reason(found) == "noisier or sharper than its input allows (bits/dim of level 1: +2.7 standard deviations)");
    found.latents = Numbers(18, 0.0);
    found.latents[9] = 3.6;
    found.latents[10] = 3.5;
    CHECK(reason(found) ==
          "colours or contrast unlike its input's (correlation to the right of z[1, 0]: +3.6 standard deviations)");
}

TEST_CASE("a reason names the block of a statistic, in models with and without cross blocks") {
    Typicality found;
    found.value = 0.001;
    found.residuals = {0.2, 1.0};
    found.latents = Numbers(18, 0.0);
    found.latents[7] = 3.5;
    CHECK(reason(found) == "unusual structure (mean square of z[1, 0]: +3.5 standard deviations)");
    found.latents.resize(12);
    CHECK(reason(found) == "unusual structure (mean square of z[1, 1]: +3.5 standard deviations)");
}

TEST_CASE("consistency requires the graph degrade, and consistent results require a model that enlarges") {
    Manifest manifest = read_manifest(std::getenv("CAFLOW_BUNDLE"));
    DrawOptions ranked, consistent;
    ranked.temperature = consistent.temperature = {0.8};
    ranked.rank = Rank::consistency;
    consistent.consistent = true;
    CHECK_NOTHROW(ranked.check(manifest));
    CHECK_NOTHROW(consistent.check(manifest));
    manifest.model.scale = 1;
    CHECK_THROWS_WITH_AS(consistent.check(manifest), doctest::Contains("require a model that enlarges"), InputError);
    manifest.model.scale = 4;
    std::erase_if(manifest.graphs, [](const GraphFile& graph) { return graph.name == degrade_graph; });
    CHECK_THROWS_WITH_AS(ranked.check(manifest),
                         "rank 'consistency': this model, of the task 'super-resolution', has no graph 'degrade' that "
                         "makes a condition again",
                         InputError);
    CHECK_THROWS_WITH_AS(consistent.check(manifest), doctest::Contains("require a model that enlarges"), InputError);
}

TEST_CASE("a sample whose image has no finite likelihood is rejected") {
    const Graphs graphs = graphs_of(std::getenv("CAFLOW_BUNDLE"));  // scale 4, two levels
    const Likelihoods likelihoods("", graphs.manifest().model, false);
    const Image condition(1, 1);
    DrawOptions draw;
    draw.reject = {0.02, Reject::Judge::image, 0, Reject::Otherwise::keep};
    const Judgement judgement{graphs, draw, likelihoods, nullptr};
    for (const std::uint32_t finite : {0u, 1u, 2u}) {  // number of the sample whose image is finite; 2: none
        Chooser chooser(judgement, condition, 0);
        for (const std::uint32_t sample : {0u, 1u}) {
            BatchItem item;
            item.sample = sample;
            item.pixels.assign(4 * 4 * 3, 1);
            item.per_level.assign(2, -double(sample));
            chooser.take(std::move(item));
        }
        const bool is_accepted = chooser.judge_images([&](Result& candidate, const Condition&) {
            candidate.image_typicality.emplace().value = 0.5;
            return candidate.item.sample == finite;
        });
        CHECK(is_accepted == (finite < 2));
        if (finite == 2) {
            CHECK_THROWS_AS(chooser.chosen(), NotFinite);
            continue;
        }
        const Result chosen = chooser.chosen();
        CHECK(chosen.item.sample == finite);
        CHECK(chosen.rejected == finite);
    }
}

TEST_SUITE_END();
