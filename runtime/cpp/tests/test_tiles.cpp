#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "batch_size.hpp"
#include "tiles.hpp"

using namespace caflow::runtime;

TEST_SUITE_BEGIN("tiles");

TEST_CASE("weights sum to one in the image and are zero in the padding, for any size and budget") {
    for (const std::int64_t height : {1, 15, 16, 77, 200, 257}) {
        for (const std::int64_t width : {3, 64, 100, 301}) {
            for (const std::int64_t budget : {96 * 96, 128 * 128, 300 * 300}) {
                std::vector<double> sums(std::size_t(height * width));
                for (const Tile& window : cut(height, width, 16, budget, 32)) {
                    REQUIRE(window.pixels() <= budget);
                    for (std::int64_t y = window.y.start; y < window.y.end(); ++y) {
                        for (std::int64_t x = window.x.start; x < window.x.end(); ++x) {
                            const float weight = window.y.weights[std::size_t(y - window.y.start)] *
                                                 window.x.weights[std::size_t(x - window.x.start)];
                            if (y < height && x < width) {
                                sums[std::size_t(y * width + x)] += weight;
                            } else
                                REQUIRE(weight == 0.0f);
                        }
                    }
                }
                for (const double sum : sums) REQUIRE(sum == doctest::Approx(1.0).epsilon(1e-6));
            }
        }
    }
}

TEST_CASE("a budget whose tiles would be only overlap is refused") {
    CHECK_THROWS_AS(cut(256, 256, 16, 32 * 32, 16), TooSmall);
    CHECK_NOTHROW(cut(32, 32, 16, 32 * 32, 16));
}

TEST_CASE("a canvas merges windows, and its map has the same sum as theirs") {
    TileCanvas canvas(70, 90);
    double given = 0;
    for (const Tile& window : cut(70, 90, 16, 48 * 48, 16)) {
        const std::vector<float> pixels(std::size_t(window.pixels()) * 3, 7.0f);
        const std::int64_t h = window.y.length() / 4, w = window.x.length() / 4;
        const std::vector<float> nats(std::size_t(h * w), 2.0f);
        const Map map{h, w, nats};
        canvas.add(window, pixels, {map});
        given += weighted_sum(window, map);
    }
    for (const float value : canvas.pixels) REQUIRE(value == doctest::Approx(7.0f));
    CHECK(canvas.maps[0].sum() == doctest::Approx(given));
    CHECK(given == doctest::Approx(2.0 * 70 * 90 / 16));
    const std::vector<float> map = map_per_pixel(canvas.maps, 70, 90);
    CHECK(std::accumulate(map.begin(), map.end(), 0.0) == doctest::Approx(given).epsilon(1e-6));
}

TEST_CASE("a batch has one window shape, and no more pixels than the budget") {
    const std::vector<std::vector<Tile>> windows{cut(64, 64, 16, 1 << 14, 16), cut(64, 64, 16, 1 << 14, 16),
                                                 cut(300, 100, 16, 1 << 14, 16)};
    std::vector<std::uint32_t> samples(7);
    std::iota(samples.begin(), samples.end(), 0U);
    std::size_t items = 0;
    for (const Run& run : plan(windows, samples, {1 << 14, {}}, 1 << 25)) {
        std::int64_t pixels = 0;
        for (const TileBatch& unit : run) {
            CHECK(unit.window->has_shape_of(*run.front().window));
            pixels += unit.window->pixels() * std::int64_t(unit.samples.size());
            items += unit.samples.size();
        }
        CHECK(pixels <= 1 << 14);
    }
    CHECK(items == 7 * (windows[0].size() + windows[1].size() + windows[2].size()));
}

TEST_CASE("batches fit in the profile of engines, and the remedy names settings that suffice") {
    const BatchLimits limits{1 << 20, Profile{4, 256, 512}};
    CHECK(limits.largest_sides()->width == 512);
    const auto window = [](std::int64_t height, std::int64_t width) { return cut(height, width, 16, 1 << 20, 16)[0]; };
    CHECK(limits.items(window(64, 64)) == 4);
    CHECK(BatchLimits{1 << 15, Profile{4, 256, 512}}.items(window(128, 128)) == 2);
    CHECK(limits.remedy(9, 64, 48) == "engines built with --max-batch-size 9 --max-size 48x64");
    CHECK(limits.remedy(1, 300, 600) == "engines built with --max-batch-size 1 --max-size 600x300");
    CHECK(BatchLimits{1000, {}}.remedy(2, 32, 32) == "a pixel budget of 2048");
    CHECK(BatchLimits{1000, Profile{1, 32, 32}}.remedy(2, 32, 32) ==
          "a pixel budget of 2048 and engines built with --max-batch-size 2 --max-size 32x32");
    const BatchLimits any{1 << 14, {}};
    CHECK(!any.largest_sides());
    CHECK(any.items(window(64, 64)) == 4);
}

TEST_CASE("windows are no larger than the sides that engines accept") {
    for (const Tile& window : cut(200, 700, 16, 1 << 20, 16, Sides{128, 256})) {
        CHECK(window.y.length() <= 128);
        CHECK(window.x.length() <= 256);
    }
    CHECK_THROWS_AS(cut(200, 700, 16, 1 << 20, 64, Sides{128, 256}), TooSmall);
    CHECK(cut(100, 200, 16, 1 << 20, 64, Sides{128, 256}).size() == 1);
}

TEST_SUITE_END();
