// What the runtime throws on purpose, each saying what was wanted, what came, and what to do.
#pragma once

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace caflow::runtime {

// An argument is not what it should be.
class InputError : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A backend cannot run, here or with what it was given.
class BackendError : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A sample or a likelihood is not finite, so there is none to give.
class NotFinite : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Every sample of an image was rejected.
class Untypical : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Memory ran out; with more text than std::bad_alloc.
class OutOfMemory : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A folder is not a bundle that this version can use. The kinds are the exceptions of the Python reader.
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

    // `text` says where, too.
    BundleError(Kind kind, const std::string& text) : std::runtime_error(shown(text)), kind(kind) {}

    Kind kind;

  private:
    // Names from files may hold zero bytes, which would end the message for C.
    static std::string shown(std::string text) {
        std::replace(text.begin(), text.end(), '\0', '?');
        return text;
    }
};

}  // namespace caflow::runtime
