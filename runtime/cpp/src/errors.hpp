// Exceptions of the runtime. Each message says what is wrong and, where possible, why and what to do.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace caflow::runtime {

// Return a number for a message, with as few digits as identify it.
template <class Number>
std::string shown(Number number) {
    std::array<char, 32> digits{};
    return {digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr};
}

// An argument or an option is not valid.
class InputError : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A backend is not available on this machine, or it failed while it loaded or ran a graph.
class BackendError : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A sample or a likelihood is infinite or NaN, so there is no result.
class NotFinite : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Every sample of an image was rejected.
class Untypical : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The application stopped the call.
class Stopped : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Memory ran out. Unlike std::bad_alloc, this exception has a message.
class OutOfMemory : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A folder is not a bundle, or the bundle is damaged or not supported by this version. Each kind is named after an
// exception class of the Python reader.
class BundleError : public std::runtime_error {
  public:
    enum class Kind {
        NoBundle,
        ManifestTooLarge,
        WrongManifest,
        UnknownFormat,
        PathOutside,
        MissingFile,
        TruncatedFile,
        WrongHash,
        UnlistedFile,
        MissingGraph,
        WrongShape,
        BrokenGraph,
        WrongCalibration,
    };

    BundleError(Kind kind, const std::filesystem::path& where, const std::string& message)
        : BundleError(kind, where.string() + ": " + message) {}

    // `text` is the whole message, including the path.
    BundleError(Kind kind, const std::string& text) : std::runtime_error(shown(text)), kind(kind) {}

    Kind kind;

  private:
    // Replace zero bytes, which names from files may contain: for C they would end the message.
    static std::string shown(std::string text) {
        std::replace(text.begin(), text.end(), '\0', '?');
        return text;
    }
};

}  // namespace caflow::runtime
