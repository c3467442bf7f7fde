// Helpers for tests on the fakes: a bundle with engines of the fake TensorRT, and checks of what a test leaves behind.
#pragma once

#include <NvInferVersion.h>
#include <doctest/doctest.h>

#include <caflow/caflow.hpp>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bundle.hpp"
#include "fakes/journal.hpp"
#include "fakes/memory.hpp"

namespace on_fakes {

namespace fs = std::filesystem;

constexpr int most_rows = 8, most_side = 64;      // limits of the engines' first profile
constexpr int fewer_rows = 2, smaller_side = 32;  // limits of the second profile

constexpr int overlap = 16;

inline std::string version() {
    std::string text;
    for (const int part : {NV_TENSORRT_MAJOR, NV_TENSORRT_MINOR, NV_TENSORRT_PATCH, NV_TENSORRT_BUILD}) {
        text += (text.empty() ? "" : ".") + std::to_string(part);
    }
    return text;
}

// Temporary copy of the test bundle with fake engines, which compute the bundle's own graphs. It is removed at the end.
class Bundle {
  public:
    Bundle() {
        std::string name = (fs::temp_directory_path() / "caflow-fakes-XXXXXX").string();
        REQUIRE(mkdtemp(name.data()));
        folder = name;
        fs::copy(std::getenv("CAFLOW_BUNDLE"), folder, fs::copy_options::recursive);
        const fs::path set = folder / "engines" / "fake";
        fs::create_directories(set);
        nlohmann::json description{
            {"format", "caflow-engines"},
            {"format_version", 1},
            {"manifest_sha256", caflow::runtime::sha256_of(folder / "manifest.json")},
            {"flavor", "tensorrt"},
            {"version", version()},
            {"compute_capability", "9.0"},
            {"gpu", nullptr},
            {"precision", "fp32"},
            {"profiles",
             {{{"rows", most_rows}, {"height", most_side}, {"width", most_side}},
              {{"rows", fewer_rows}, {"height", smaller_side}, {"width", smaller_side}}}},
            {"verification", nlohmann::json::array()}};
        for (const auto& entry : fs::directory_iterator(folder)) {
            if (entry.path().extension() != ".onnx") continue;
            const std::string graph = entry.path().stem().string(), file = graph + ".engine";
            const std::string plan = entry.path().string() + "\n" + std::to_string(most_rows) + " " +
                                     std::to_string(most_side) + "\n" + std::to_string(fewer_rows) + " " +
                                     std::to_string(smaller_side) + "\n";
            std::ofstream(set / file) << plan;
            description["engines"].push_back(
                {{"graph", graph},
                 {"file",
                  {{"path", file},
                   {"bytes", plan.size()},
                   {"sha256", caflow::runtime::sha256_of(std::string_view(plan))}}}});
        }
        std::ofstream(set / "engines.json") << description;
    }
    ~Bundle() { fs::remove_all(folder); }
    Bundle(const Bundle&) = delete;
    Bundle& operator=(const Bundle&) = delete;

    fs::path folder;
};

inline const Bundle& bundle() {
    static const Bundle bundle;
    return bundle;
}

inline caflow::Model open_model(const std::string& backend = "tensorrt", std::uint64_t pixel_budget = 0) {
    return caflow::Model(bundle().folder.string(), {backend, "", pixel_budget, overlap, 1});
}

// Checks, at the end of a test, that the fakes saw no wrong use, that everything was freed, and that the thread's
// current GPU is still the one that the application had chosen.
class Clean {
  public:
    Clean() {
        fake::fail_none();
        fake::limit_memory(0);
        fake::set_current_device(1);
    }
    ~Clean() { check(); }

    static void check() {
        for (const std::string& fault : fake::take_faults()) FAIL_CHECK("wrong use: ", fault);
        for (const std::string& object : fake::alive()) FAIL_CHECK("never freed: ", object);
        CHECK(fake::current_device() == 1);
    }
};

// Smooth RGB image, similar to a photograph.
class Picture {
  public:
    Picture(std::size_t height, std::size_t width, double phase) : height_(height), width_(width) {
        for (std::size_t k = 0; k < height * width * 3; ++k) {
            const double y = double(k / 3 / width), x = double(k / 3 % width);
            rgb_.push_back(std::uint8_t(128 + 60 * std::sin(y / 5 + phase) + 50 * std::cos(x / 7 + double(k % 3))));
        }
    }

    caflow::Image view() const { return caflow::view(rgb_.data(), height_, width_); }

  private:
    std::size_t height_, width_;
    std::vector<std::uint8_t> rgb_;
};

inline caflow::DrawOptions draw(std::uint32_t samples, std::uint32_t seed = 0) {
    caflow::DrawOptions options;
    options.samples = samples;
    options.seed = seed;
    return options;
}

// Check that both results have the same samples, with equal likelihoods and almost equal pixels.
inline void check_same(const caflow::Results& ours, const caflow::Results& expected) {
    REQUIRE(ours.size() == expected.size());
    for (std::size_t k = 0; k < ours.size(); ++k) {
        CHECK(ours[k].sample() == expected[k].sample());
        const auto pixels = ours[k].rgb(), wanted = expected[k].rgb();
        REQUIRE(pixels.size() == wanted.size());
        std::size_t differing = 0;
        for (std::size_t at = 0; at < pixels.size(); ++at) differing += pixels[at] != wanted[at];
        CHECK(differing <= pixels.size() / 10'000);
        const auto levels = ours[k].per_level(), nats = expected[k].per_level();
        for (std::size_t j = 0; j < levels.size(); ++j) CHECK(levels[j] == doctest::Approx(nats[j]).epsilon(1e-5));
    }
}

}  // namespace on_fakes
