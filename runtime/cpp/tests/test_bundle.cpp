#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <sstream>
#include <string>

#include "bundle.hpp"
#include "errors.hpp"

using namespace caflow::runtime;
namespace fs = std::filesystem;
using Kind = BundleError::Kind;

namespace {

const std::map<std::string, Kind> kinds{
    {"NoBundle", Kind::NoBundle},           {"ManifestTooLarge", Kind::ManifestTooLarge},
    {"WrongManifest", Kind::WrongManifest}, {"UnknownFormat", Kind::UnknownFormat},
    {"PathOutside", Kind::PathOutside},     {"MissingFile", Kind::MissingFile},
    {"TruncatedFile", Kind::TruncatedFile}, {"WrongHash", Kind::WrongHash},
    {"MissingGraph", Kind::MissingGraph},   {"WrongShape", Kind::WrongShape},
    {"UnlistedFile", Kind::UnlistedFile},   {"BrokenGraph", Kind::BrokenGraph},
};

// Return the folder of the bundles that Python's reader refuses, or "" if there is none.
std::string cases() {
    const char* data = std::getenv("CAFLOW_TEST_DATA");
    return data && *data ? std::string(data) + "/bundles" : "";
}

}  // namespace

TEST_SUITE_BEGIN("bundle");

// Each folder contains a bundle and the file expected.txt: a line with the correct kinds of error, and a line with a
// regular expression for the message.
TEST_CASE("bundles that Python refuses are refused with the same kind of error" * doctest::skip(cases().empty())) {
    std::size_t count = 0;
    for (const auto& entry : fs::directory_iterator(cases())) {
        const std::string name = entry.path().filename().string();
        CAPTURE(name);
        std::ifstream file(entry.path() / "expected.txt");
        std::string allowed, message;
        REQUIRE(std::getline(file, allowed));
        std::getline(file, message);
        const fs::path folder = entry.path() / "bundle";
        ++count;
        try {
            verify_files(folder, read_manifest(folder));
            FAIL_CHECK("the bundle was read without an error");
        } catch (const BundleError& error) {
            CAPTURE(error.what());
            std::istringstream names(allowed);
            const bool is_right = std::any_of(std::istream_iterator<std::string>(names), {},
                                              [&](const std::string& kind) { return kinds.at(kind) == error.kind; });
            CHECK(is_right);
            CHECK(std::regex_search(error.what(), std::regex(message)));
        }
    }
    CHECK(count >= 40);
}

TEST_SUITE_END();
