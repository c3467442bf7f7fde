#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <string>

#include "noise.hpp"

using namespace caflow::runtime;

TEST_SUITE_BEGIN("noise");

TEST_CASE("the generator is Philox4x32-10: it returns the known answers that its authors published") {
    constexpr std::uint32_t ones = 0xFFFFFFFF;
    CHECK(philox({0, 0, 0, 0}, {0, 0}) == Words{0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8});
    CHECK(philox({ones, ones, ones, ones}, {ones, ones}) == Words{0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD});
    CHECK(philox({0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344}, {0xA4093822, 0x299F31D0}) ==
          Words{0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1});
}

// Each line of philox.txt has the four words of a counter, the two words of a key, and the four words that Python
// computes. normals.bin contains normal numbers of Python.
TEST_CASE("integers are equal to Python's, and normal numbers differ by at most one float32 step" *
          doctest::skip(!std::getenv("CAFLOW_TEST_DATA") || !*std::getenv("CAFLOW_TEST_DATA"))) {
    std::ifstream file(std::string(std::getenv("CAFLOW_TEST_DATA")) + "/philox.txt");
    REQUIRE(file.is_open());
    std::size_t count = 0;
    Words counter, expected;
    std::array<std::uint32_t, 2> key;
    while (file >> counter[0] >> counter[1] >> counter[2] >> counter[3] >> key[0] >> key[1] >> expected[0] >>
           expected[1] >> expected[2] >> expected[3]) {
        REQUIRE(philox(counter, key) == expected);
        ++count;
    }
    CHECK(count == 10000);
    std::ifstream normals(std::string(std::getenv("CAFLOW_TEST_DATA")) + "/normals.bin", std::ios::binary);
    std::vector<float> python(4 * 128 * 128), ours(python.size());
    normals.read(reinterpret_cast<char*>(python.data()), std::streamsize(python.size() * sizeof(float)));
    REQUIRE(normals.gcount() == std::streamsize(python.size() * sizeof(float)));
    draw_place({2, 1000, 70000, 128, 128, 4294967295, 7}, std::vector<std::int64_t>{4}, std::vector<float>{1.0f},
               4000000000, ours.data());
    for (std::size_t k = 0; k < ours.size(); ++k) {
        REQUIRE(ours[k] <= std::nextafter(python[k], HUGE_VALF));
        REQUIRE(ours[k] >= std::nextafter(python[k], -HUGE_VALF));
    }
}

TEST_CASE("drifting noise is equal to Python's, whichever frames are drawn" *
          doctest::skip(!std::getenv("CAFLOW_TEST_DATA") || !*std::getenv("CAFLOW_TEST_DATA"))) {
    std::vector<float> python(2 * 6 * 8 * 12);
    std::ifstream file(std::string(std::getenv("CAFLOW_TEST_DATA")) + "/drifted.bin", std::ios::binary);
    file.read(reinterpret_cast<char*>(python.data()), std::streamsize(python.size() * sizeof(float)));
    REQUIRE(file.gcount() == std::streamsize(python.size() * sizeof(float)));
    LevelNoise z{1, {6}, {0.5f}, 8, 12, 1, 8, {{5, 7, 0}, {5, 7, 9}}};
    DriftingNoise every(0.9), last(0.9);
    every.restart(0);
    every.draw_noise(z);  // restart() discards this noise
    every.restart(3);
    last.restart(3);
    for (z.frame = 3; z.frame < 8; ++z.frame) every.draw_noise(z);
    const Array drawn = every.draw_noise(z), drawn_last = last.draw_noise(z);
    const auto ours = floats_of(drawn), alone = floats_of(drawn_last);
    for (std::size_t k = 0; k < python.size(); ++k) {
        REQUIRE(ours[k] == alone[k]);
        REQUIRE(ours[k] == doctest::Approx(0.5f * python[k]).epsilon(1e-5));
    }
}

TEST_CASE("the noise of a scene is drawn once") {
    int draws = 0;
    const DrawNoise draw = [&](const LevelNoise& z) {
        ++draws;
        return draw_noise(z);
    };
    SceneNoise scene;
    scene.begin(8, 0, 1 << 20);
    LevelNoise z{1, {6}, {0.5f}, 8, 12, 1, 8, {{5, 7, 0}}}, other = z;
    other.items.front().left = 9;
    const Array first = scene.draw_noise(z, draw), tile = scene.draw_noise(other, draw);
    CHECK(scene.draw_noise(z, draw) == first);
    CHECK(scene.draw_noise(other, draw) == tile);
    CHECK(draws == 2);
    const Array alone = draw_noise(other);
    CHECK(std::ranges::equal(floats_of(tile), floats_of(alone)));
    scene.begin(8, 0, 1 << 20);
    CHECK(scene.draw_noise(z, draw) == first);
    CHECK(draws == 2);
    z.frame = 9;
    scene.begin(9, 0, 1 << 20);
    const Array next = scene.draw_noise(z, draw), next_alone = draw_noise(z);
    CHECK(std::ranges::equal(floats_of(next), floats_of(next_alone)));
    CHECK(draws == 3);
    scene.begin(9, 0, 1 << 19);  // memory has run out: what was kept is forgotten
    scene.draw_noise(z, draw);
    CHECK(draws == 4);
}

TEST_SUITE_END();
