#include <doctest/doctest.h>

#include <caflow/caflow.hpp>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

namespace {

constexpr std::size_t side = 8, large = 4 * side;

std::string folder() { return std::getenv("CAFLOW_BUNDLE"); }

const caflow::Model& model() {
    static const caflow::Model model(folder(), {"cpu", "", 0, 0, 1});
    return model;
}

// Return a smooth RGB image, similar to a photograph.
std::vector<std::uint8_t> smooth(std::size_t height, std::size_t width, double phase) {
    std::vector<std::uint8_t> rgb;
    for (std::size_t k = 0; k < height * width * 3; ++k) {
        const double y = double(k / 3 / width), x = double(k / 3 % width);
        rgb.push_back(std::uint8_t(128 + 60 * std::sin(y / 5 + phase) + 50 * std::cos(x / 7 + double(k % 3))));
    }
    return rgb;
}

const std::vector<std::uint8_t> first_rgb = smooth(side, side, 0), second_rgb = smooth(side, side, 1);
const std::vector<std::uint8_t> large_rgb = smooth(large, large, 0);
const caflow::Image first = caflow::view(first_rgb.data(), side, side);
const caflow::Image second = caflow::view(second_rgb.data(), side, side);

bool same(const caflow::Result& a, const caflow::Result& b) {
    return a.sample() == b.sample() && a.rgb().size() == b.rgb().size() &&
           !std::memcmp(a.rgb().data(), b.rgb().data(), a.rgb().size()) &&
           std::abs(a.log_likelihood() / b.log_likelihood() - 1) < 1e-6;
}

caflow::DrawOptions samples(std::uint32_t count) {
    caflow::DrawOptions options;
    options.n = count;
    return options;
}

}  // namespace

TEST_SUITE_BEGIN("model");

TEST_CASE("caflow_info describes the model") {
    const caflow_model_info info = model().info();
    CHECK(info.task == std::string("super-resolution"));
    CHECK(info.description == std::string("Enlarge photographs ×4"));
    CHECK(info.backend == std::string("onnxruntime cpu"));
    CHECK(info.scale == 4);
    CHECK(info.levels == 2);
    CHECK(info.pixel_budget == 1 << 20);
}

TEST_CASE("the best sample is the first of all samples, and a sample does not depend on the batch or on N") {
    const caflow::Results all = model().sample({first, second}, samples(4));
    REQUIRE(all.size() == 8);
    const caflow::Results best = model().best_of({first, second}, samples(4));
    REQUIRE(best.size() == 2);
    CHECK(same(best[0], all[0]));
    CHECK(same(best[1], all[4]));
    for (std::size_t k = 1; k < 4; ++k) CHECK(all[k - 1].log_likelihood() >= all[k].log_likelihood());
    for (const caflow::Result one : all) {
        caflow::DrawOptions alone = samples(1);
        alone.first_sample = one.sample();
        CHECK(same(model().sample(one.image() ? second : first, alone)[0], one));
    }
}

TEST_CASE("a result has all of its parts, and they are consistent with each other") {
    caflow::DrawOptions options = samples(2);
    options.with_pixels = options.with_likelihood_maps = true;
    const caflow::Results best = model().best_of(first, options);
    const caflow::Result result = best[0];
    CHECK(result.height() == large);
    CHECK(result.width() == large);
    const auto levels = result.per_level();
    CHECK(std::accumulate(levels.begin(), levels.end(), 0.0) == doctest::Approx(result.log_likelihood()));
    const auto map = result.log_likelihood_map();
    REQUIRE(map.size() == large * large);
    CHECK(std::accumulate(map.begin(), map.end(), 0.0) == doctest::Approx(result.log_likelihood()).epsilon(1e-5));
    CHECK(result.bits_per_dim() == doctest::Approx(-result.log_likelihood() / (3 * large * large * std::log(2.0))));
    CHECK(std::isnan(result.consistency()));
    for (std::size_t k = 0; k < result.rgb().size(); ++k) {
        REQUIRE(result.rgb()[k] == std::uint8_t(std::fmin(255.0f, std::fmax(0.0f, result.pixels()[k]))));
    }
    const caflow::Results scored = model().score(result.view(), first, true);
    CHECK(scored[0].rgb().empty());
    CHECK(scored[0].log_likelihood_map().size() == large * large);
    CHECK(std::isfinite(scored[0].log_likelihood()));
}

TEST_CASE("rows of an image may have gaps") {
    std::vector<std::uint8_t> wide(side * (3 * side + 5));
    for (std::size_t y = 0; y < side; ++y) {
        std::memcpy(&wide[y * (3 * side + 5)], &first_rgb[y * 3 * side], 3 * side);
    }
    const caflow::Results apart = model().best_of(caflow::view(wide.data(), side, side, 3 * side + 5), samples(2));
    CHECK(same(apart[0], model().best_of(first, samples(2))[0]));
}

TEST_CASE("options have their documented effects") {
    const caflow::Results plain = model().best_of(first, samples(2));
    caflow::DrawOptions seeded = samples(2), framed = samples(2), cold = samples(2), per_level = samples(2);
    seeded.seed = framed.frame = 1;
    cold.temperature = {0};
    per_level.temperature = {0.8, 0.8};
    CHECK_FALSE(same(model().best_of(first, seeded)[0], plain[0]));
    CHECK_FALSE(same(model().best_of(first, framed)[0], plain[0]));
    CHECK(same(model().best_of(first, per_level)[0], plain[0]));
    const caflow::Results mode = model().sample(first, cold);
    CHECK(mode[0].log_likelihood() == doctest::Approx(mode[1].log_likelihood()));
    caflow::DrawOptions consistent = samples(4);
    consistent.rank = caflow::Rank::consistency;
    const caflow::Results ranked = model().sample(first, consistent);
    for (std::size_t k = 1; k < 4; ++k) CHECK(ranked[k - 1].consistency() >= ranked[k].consistency());
    caflow::DrawOptions pruned = samples(4);
    pruned.keep = {4, 4};
    CHECK(same(model().best_of(first, pruned)[0], model().best_of(first, samples(4))[0]));
    pruned.keep = {4, 2};
    CHECK(model().best_of(first, pruned).size() == 1);
}

TEST_CASE("a stream keeps the sample of a scene, and chooses again when another scene begins") {
    caflow::Stream stream = caflow::Model(folder(), {"cpu", "", 0, 0, 1}).open_stream(samples(4));  // outlives model
    std::vector<std::uint8_t> dark_rgb(first_rgb.size(), 10);
    const caflow::Image dark = caflow::view(dark_rgb.data(), side, side);
    std::size_t number = 0;
    std::uint32_t kept = 0;
    for (const auto& [frame, begins] : {std::pair(first, true), {first, false}, {dark, true}, {dark, false}}) {
        const caflow::Results drawn = stream.draw(frame);
        CHECK(drawn[0].starts_scene() == begins);
        CHECK(drawn[0].image() == number++);
        if (begins) kept = drawn[0].sample();
        CHECK(drawn[0].sample() == kept);
    }
    caflow::DrawOptions of_scene = samples(4);
    CHECK(same(model().open_stream(of_scene).draw(first)[0], model().best_of(first, of_scene)[0]));
    CHECK_THROWS_AS(model().open_stream(of_scene, {caflow::FrameNoise::drifting, 1.0}), caflow::InputError);
    of_scene.consistent = true;
    CHECK_THROWS_AS(model().open_stream(of_scene), caflow::InputError);
    CHECK_THROWS_WITH_AS(stream.draw(caflow::view(first_rgb.data(), 0, side)), doctest::Contains("height 0"),
                         caflow::InputError);
}

TEST_CASE("progress counts the finished windows, and can stop a call") {
    const caflow::Model one_by_one(folder(), {"cpu", "", large * large, 0, 1});  // each sample is a batch
    std::vector<std::uint64_t> finished;
    caflow::DrawOptions options = samples(4);
    options.progress = [&](std::uint64_t done, std::uint64_t count) {
        finished.push_back(done);
        return count == 4;
    };
    const caflow::Results whole = one_by_one.best_of(first, options);
    CHECK(finished == std::vector<std::uint64_t>{1, 2, 3, 4});
    options.progress = [&](std::uint64_t done, std::uint64_t) {
        finished.push_back(done);
        return done < 2;
    };
    CHECK_THROWS_WITH_AS(one_by_one.best_of(first, options), doctest::Contains("progress"), caflow::Stopped);
    CHECK_THROWS_AS(one_by_one.sample(first, options), caflow::Stopped);
    CHECK(finished == std::vector<std::uint64_t>{1, 2, 3, 4, 1, 2, 1, 2});
    options.progress = [](std::uint64_t, std::uint64_t) -> bool { throw std::domain_error("of the application"); };
    CHECK_THROWS_WITH_AS(one_by_one.best_of(first, options), "of the application", std::domain_error);
    CHECK(same(one_by_one.best_of(first, samples(4))[0], whole[0]));
}

TEST_CASE("a stopped model computes nothing until it is set to work again") {
    const caflow::Model stoppable(folder(), {"cpu", "", large * large, 0, 1});  // each sample is a batch
    caflow::DrawOptions options = samples(4);
    std::uint64_t finished = 0;
    options.progress = [&](std::uint64_t done, std::uint64_t) {
        finished = done;
        stoppable.set_stopped(done == 2);
        return true;
    };
    CHECK_THROWS_WITH_AS(stoppable.best_of(first, options), doctest::Contains("set_stopped"), caflow::Stopped);
    CHECK(finished == 2);
    CHECK_THROWS_AS(stoppable.score(caflow::view(large_rgb.data(), large, large), first), caflow::Stopped);
    stoppable.set_stopped(false);
    CHECK(same(stoppable.best_of(first)[0], model().best_of(first)[0]));
}

TEST_CASE("a stream draws the next frames after a frame was stopped") {
    using caflow::FrameNoise;
    for (const FrameNoise noise : {FrameNoise::fixed, FrameNoise::fresh, FrameNoise::drifting}) {
        bool stops = false;
        caflow::DrawOptions options = samples(4);
        options.progress = [&](std::uint64_t, std::uint64_t) { return !stops; };
        caflow::Stream opened = model().open_stream(options, {noise, 0.9}), stream = std::move(opened);
        caflow::Stream whole = model().open_stream(samples(4), {noise, 0.9});
        for (std::size_t k = 0; k < 4; ++k) {
            const caflow::Results expected = whole.draw(first);
            stops = k == 1;
            if (stops) {
                CHECK_THROWS_AS(stream.draw(first), caflow::Stopped);
                continue;
            }
            const caflow::Results drawn = stream.draw(first);
            CHECK(drawn[0].image() == k);
            CHECK(same(drawn[0], expected[0]));
        }
    }
}

TEST_CASE("verdicts") {
    caflow::DrawOptions strict = samples(3);
    strict.min_typicality = 0.999;
    strict.redraws = 1;
    const caflow::Results best = model().best_of(first, strict);
    CHECK(best[0].outcome() == caflow::Outcome::rejected);
    CHECK(best[0].rejected() == 4);
    CHECK(best[0].reason() != "");
    CHECK(best[0].sample_typicality() < 0.999);
    CHECK(std::isnan(best[0].image_typicality()));
    strict.otherwise = caflow::Otherwise::drop;
    CHECK_THROWS_AS(model().best_of(first, strict), caflow::Untypical);
    strict.otherwise = caflow::Otherwise::bicubic;
    strict.judge = caflow::Judge::image;
    const caflow::Results enlarged = model().best_of(first, strict);
    CHECK(enlarged[0].outcome() == caflow::Outcome::bicubic);
    CHECK_FALSE(enlarged[0].has_sample());
    std::vector<std::uint8_t> noise;
    for (std::uint32_t k = 0; k < large * large * 3; ++k) noise.push_back(std::uint8_t((k * 2654435761U) >> 24));
    const caflow::Results judged = model().judge(caflow::view(noise.data(), large, large), first, 0.02);
    CHECK(judged[0].outcome() == caflow::Outcome::rejected);
    CHECK(judged[0].image_typicality() < 0.02);
    CHECK(judged[0].level_residuals().size() == 2);
    CHECK(judged[0].reason() != "");
    caflow::OpenOptions plain{"cpu", "", 0, 0, 1};
    plain.with_calibration = false;
    CHECK_THROWS_WITH_AS(caflow::Model(folder(), plain).best_of(first, strict), doctest::Contains("not calibrated"),
                         caflow::InputError);
}

TEST_CASE("eight threads share one handle") {
    const caflow::Results expected = model().best_of({first, second}, samples(3));
    const caflow::Results scored = model().score(expected[0].view(), first);
    const caflow::Model shared(folder(), {"cpu", "", 0, 0, 1});  // new: threads load its graphs at the same time
    std::vector<std::string> wrong(8);
    std::vector<std::thread> threads;
    for (std::string& failure : wrong) {
        threads.emplace_back([&] {
            try {
                for (int k = 0; k < 3; ++k) {
                    const caflow::Results best = shared.best_of({first, second}, samples(3));
                    if (!same(best[0], expected[0]) || !same(best[1], expected[1])) failure = "the best sample differs";
                    const double nats = shared.score(expected[0].view(), first)[0].log_likelihood();
                    if (std::abs(nats / scored[0].log_likelihood() - 1) > 1e-6) failure = "the score differs";
                    // Each thread must have its own last error.
                    const std::string name = "nowhere-" + std::to_string(&failure - wrong.data());
                    const caflow::Model another(folder(), {"cpu", "", 0, 0, 1});  // while other threads run theirs
                    caflow_model* none = nullptr;
                    if (caflow_open(name.c_str(), nullptr, &none) != CAFLOW_ERROR_BUNDLE) failure = "it opened";
                    if (std::string(caflow_last_error()).find(name) == std::string::npos) failure = caflow_last_error();
                }
            } catch (const std::exception& error) {
                failure = error.what();
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (const std::string& failure : wrong) CHECK(failure == "");
}

TEST_CASE("invalid arguments are refused with their own messages") {
    caflow::DrawOptions options;
    options.temperature = {0.8, 0.8, 0.8};
    CHECK_THROWS_WITH_AS(model().best_of(first, options), doctest::Contains("temperature must be one number, or 2"),
                         caflow::InputError);
    options.temperature = {std::numeric_limits<double>::quiet_NaN(), -0.5};
    CHECK_THROWS_WITH_AS(model().best_of(first, options), doctest::Contains("at least 0; got (nan, -0.5)"),
                         caflow::InputError);
    options = samples(4);
    options.min_typicality = -1e-9;
    CHECK_THROWS_WITH_AS(model().best_of(first, options), doctest::Contains("got -1e-09"), caflow::InputError);
    options = samples(4);
    options.keep = {4, 5};
    CHECK_THROWS_WITH_AS(model().best_of(first, options), doctest::Contains("keep must have 2 numbers"),
                         caflow::InputError);
    options.keep = {4, 2};
    CHECK_THROWS_WITH_AS(model().sample(first, options), doctest::Contains("caflow_best_of"), caflow::InputError);
    options.rank = caflow::Rank::consistency;
    CHECK_THROWS_AS(model().best_of(first, options), caflow::InputError);
    options = samples(4);
    options.n = 4294967295;
    CHECK_THROWS_WITH_AS(model().best_of(first, options), doctest::Contains("n must be at most 2^20"),
                         caflow::InputError);
    options = samples(4);
    options.first_sample = 4294967295;
    CHECK_THROWS_AS(model().best_of(first, options), caflow::InputError);
    CHECK_THROWS_WITH_AS(model().best_of(caflow::Images()), doctest::Contains("at least one image; got none"),
                         caflow::InputError);
    CHECK_THROWS_WITH_AS(model().best_of(caflow::view(nullptr, side, side)),
                         doctest::Contains("conditions[0].rgb must be a pointer; got NULL"), caflow::InputError);
    CHECK_THROWS_WITH_AS(model().best_of(caflow::view(first_rgb.data(), 0, side)), doctest::Contains("height 0"),
                         caflow::InputError);
    CHECK_THROWS_AS(model().best_of(caflow::view(first_rgb.data(), side, side, 3)), caflow::InputError);
    const std::size_t beyond = std::numeric_limits<std::size_t>::max();
    for (const std::size_t stride : {std::size_t{1} << 31, beyond / 2, beyond / 2 + 1, beyond}) {
        CHECK_THROWS_WITH_AS(model().best_of(caflow::view(first_rgb.data(), side, side, stride)),
                             doctest::Contains("a stride from 3 * width to 2^30 bytes"), caflow::InputError);
    }
    CHECK_THROWS_WITH_AS(model().score(first, first), doctest::Contains("must be 4 times as long"), caflow::InputError);
    CHECK_THROWS_AS(model().score({first, first}, first), caflow::InputError);
    CHECK_THROWS_AS(caflow::Model("nowhere"), caflow::BundleError);
    CHECK_THROWS_AS(caflow::Model(folder(), {"gpu", "", 0, 0, 0}), caflow::InputError);
    CHECK_THROWS_WITH_AS(caflow::Model(folder(), {"cpu", "", 256, 0, 0}).best_of(first),
                         doctest::Contains("a smaller overlap or a larger pixel_budget"), caflow::InputError);
}

TEST_CASE("the requested backend runs, or opening the model fails") {
    for (const std::string backend : {"cuda", "cuda:1", "tensorrt"}) {
        try {
            const caflow::Model opened(folder(), {backend, "", 0, 0, 0});
            CHECK(opened.info().backend == "onnxruntime " + backend);
        } catch (const caflow::BackendError& error) {
            CHECK(std::string(error.what()).find("the backend") == 0);
        }
    }
}

TEST_CASE("a plug-in library belongs to the backends that need one, and must exist") {
    caflow::OpenOptions options;
    options.backend = "tensorrt-rtx";
    CHECK_THROWS_WITH_AS(caflow::Model(folder(), options), doctest::Contains("plugin_library must be the path"),
                         caflow::InputError);
    options.plugin_library = "libno_such_plugin.so";
    CHECK_THROWS_WITH_AS(caflow::Model(folder(), options), doctest::Contains("the backend tensorrt-rtx"),
                         caflow::BackendError);
    options.backend = "cpu";
    CHECK_THROWS_WITH_AS(caflow::Model(folder(), options), doctest::Contains("got 'libno_such_plugin.so' with cpu"),
                         caflow::InputError);
}

TEST_CASE("structs of older and newer applications are accepted") {
    caflow_model* handle = nullptr;
    caflow_open_options unset{};
    CHECK(caflow_open(folder().c_str(), &unset, &handle) == CAFLOW_ERROR_INPUT);
    CHECK(std::string(caflow_last_error()).find("struct_size") != std::string::npos);
    struct {
        caflow_open_options known;
        std::uint64_t field;
    } newer = {CAFLOW_OPEN_OPTIONS_INIT, 1};
    newer.known.struct_size = sizeof newer;
    CHECK(caflow_open(folder().c_str(), &newer.known, &handle) == CAFLOW_ERROR_INPUT);
    newer.field = 0;
    caflow_open_options older = CAFLOW_OPEN_OPTIONS_INIT;
    older.struct_size = offsetof(caflow_open_options, pixel_budget);
    older.pixel_budget = 1;  // beyond the struct of an older application
    for (const caflow_open_options* options : {&older, &newer.known}) {
        REQUIRE(caflow_open(folder().c_str(), options, &handle) == CAFLOW_OK);
        caflow_model_info info = CAFLOW_MODEL_INFO_INIT;
        CHECK(caflow_info(handle, &info) == CAFLOW_OK);
        CHECK(info.pixel_budget == 1 << 20);
        caflow_close(handle);
    }
    for (const std::size_t size : {sizeof(caflow_open_options) - 1, offsetof(caflow_open_options, backend) + 3,
                                   sizeof newer - 1, std::numeric_limits<std::size_t>::max()}) {
        newer.known.struct_size = size;
        CHECK(caflow_open(folder().c_str(), &newer.known, &handle) == CAFLOW_ERROR_INPUT);
    }
    CHECK(caflow_open(nullptr, nullptr, &handle) == CAFLOW_ERROR_INPUT);
    CHECK(handle == nullptr);
    CHECK(caflow_open(folder().c_str(), nullptr, nullptr) == CAFLOW_ERROR_INPUT);
}

TEST_CASE("options of an application that is older than `progress` are accepted") {
    caflow_model* handle = nullptr;
    REQUIRE(caflow_open(folder().c_str(), nullptr, &handle) == CAFLOW_OK);
    const caflow_image image = {first_rgb.data(), side, side, 3 * side, 3};
    caflow_results* results = nullptr;
    caflow_draw_options options = CAFLOW_DRAW_OPTIONS_INIT;
    options.progress = [](void*, std::uint64_t, std::uint64_t) { return 1; };
    CHECK(caflow_best_of(handle, &image, 1, &options, &results) == CAFLOW_ERROR_STOPPED);
    CHECK(results == nullptr);
    options.struct_size = offsetof(caflow_draw_options, progress);
    CHECK(caflow_best_of(handle, &image, 1, &options, &results) == CAFLOW_OK);
    caflow_free_results(results);
    caflow_close(handle);
}

TEST_CASE("invalid sizes and counts are refused") {
    caflow_model* handle = nullptr;
    REQUIRE(caflow_open(folder().c_str(), nullptr, &handle) == CAFLOW_OK);
    const caflow_image image = {first_rgb.data(), side, side, 3 * side, 3};
    caflow_results* results = nullptr;
    const std::size_t beyond = std::numeric_limits<std::size_t>::max();
    for (const std::size_t count : {beyond, beyond / 2, beyond / sizeof(caflow_image) + 1, std::size_t{1} << 21}) {
        CHECK(caflow_best_of(handle, &image, count, nullptr, &results) == CAFLOW_ERROR_INPUT);
        CHECK(caflow_score(handle, &image, &image, count, 0, &results) == CAFLOW_ERROR_INPUT);
        const double temperature = 0.8;
        const std::uint32_t keep = 10;
        caflow_draw_options options = CAFLOW_DRAW_OPTIONS_INIT;
        options.temperature = &temperature;
        options.temperatures = count;
        CHECK(caflow_best_of(handle, &image, 1, &options, &results) == CAFLOW_ERROR_INPUT);
        options.temperatures = 1;
        options.keep = &keep;
        options.keeps = count;
        CHECK(caflow_best_of(handle, &image, 1, &options, &results) == CAFLOW_ERROR_INPUT);
    }
    for (std::size_t size = 0; size < sizeof(caflow_draw_options); ++size) {
        caflow_draw_options options = CAFLOW_DRAW_OPTIONS_INIT;
        std::memset(reinterpret_cast<unsigned char*>(&options) + sizeof size, 0xFF, sizeof options - sizeof size);
        options.struct_size = size;  // all fields inside the struct have invalid values
        CHECK(caflow_best_of(handle, &image, 1, &options, &results) ==
              (size == sizeof size ? CAFLOW_OK : CAFLOW_ERROR_INPUT));
        caflow_free_results(results);
        caflow_model_info info = CAFLOW_MODEL_INFO_INIT;
        info.struct_size = size;
        const bool is_whole = size >= sizeof size && size % alignof(caflow_model_info) == 0;
        CHECK(caflow_info(handle, &info) == (is_whole ? CAFLOW_OK : CAFLOW_ERROR_INPUT));
    }
    caflow_close(handle);
}

TEST_SUITE_END();
