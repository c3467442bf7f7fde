#include "calibration.hpp"

#include <algorithm>
#include <cmath>

#include "errors.hpp"
#include "fields.hpp"
#include "line_checksum.hpp"
#include "strict_json.hpp"

namespace caflow::runtime {

namespace fs = std::filesystem;

namespace {

constexpr const char* calibration_name = "calibration.json";
constexpr const char* calibration_format = "caflow-calibration";
constexpr std::int64_t calibration_version = 2;
constexpr const char* again = ": run caflow calibrate again";
constexpr std::uintmax_t calibration_bytes = 16 << 20;
constexpr std::int64_t most_coverage_level = 7, most_ranked = (std::int64_t{1} << 31) - 1;
constexpr std::size_t most_ranks = 1001;
constexpr double same_temperature = 1e-6;
constexpr std::size_t statistics_of_a_block = 6;

[[noreturn]] void wrong(const std::string& text) {
    throw BundleError(BundleError::Kind::WrongCalibration, text + again);
}

Coverage read_coverage(const Json& value, const std::string& where) {
    Fields fields(value, where);
    Coverage coverage{Fields::as_integer(fields["level"], fields.place("level"), 0, most_coverage_level),
                      fields.text("quantity", {"mean", "variance"}),
                      as_positive(fields["temperature"], fields.place("temperature")),
                      fields.list("counts", [](const Json& count, const std::string& place) {
                          return Fields::as_integer(count, place, 0, most_ranked);
                      })};
    fields.refuse_unknown();
    const bool has_ranks =
        std::any_of(coverage.counts.begin(), coverage.counts.end(), [](std::int64_t count) { return count > 0; });
    if (coverage.counts.size() < 2 || coverage.counts.size() > most_ranks || !has_ranks) {
        Fields::refuse("counts of 2 to 1001 ranks, not all 0", value, where);
    }
    return coverage;
}

Canary read_canary(const Json& value, const std::string& where) {
    Fields fields(value, where);
    Canary canary{fields.text("backend"), as_usual_number(fields["log_likelihood"], fields.place("log_likelihood"))};
    fields.refuse_unknown();
    if (canary.log_likelihood == 0) Fields::refuse("a log_likelihood other than 0", value, where);
    return canary;
}

void check_calibration(const Calibration& found, const Json& value, const std::string& where) {
    const auto check = [&](bool holds, const std::string& wanted) {
        if (!holds) Fields::refuse(wanted, value, where);
    };
    check(!found.truth.temperature, "truth to have no temperature");
    const std::size_t levels = found.truth.kinds()[0]->levels();
    std::vector<double> temperatures;
    for (const TypicalityModel& one : found.samples) {
        check(one.temperature.has_value(), "samples to have a temperature");
        temperatures.push_back(*one.temperature);
        const ImageKind& kind = *one.kinds()[0];
        check(kind.levels() == levels && kind.measures() == levels,
              "samples to have " + std::to_string(levels) + " levels, as truth has, and no other measures");
        check(found.photographs <= one.images(), "samples to have at least one image for each photograph");
    }
    check(found.photographs <= found.truth.images(), "truth to have at least one image for each photograph");
    std::sort(temperatures.begin(), temperatures.end());
    check(std::adjacent_find(temperatures.begin(), temperatures.end()) == temperatures.end(),
          "samples to have different temperatures");
}

}  // namespace

static std::string as_json(const Coverage& coverage) {
    return JsonObject()
        .add("level", coverage.level)
        .add("quantity", coverage.quantity)
        .add("temperature", coverage.temperature)
        .add("counts", coverage.counts)
        .text();
}

static std::string as_json(const Canary& canary) {
    return JsonObject().add("backend", canary.backend).add("log_likelihood", canary.log_likelihood).text();
}

namespace {

std::string checksum_of(const Calibration& calibration) {
    const std::string text = JsonObject()
                                 .add("format", std::string(calibration_format))
                                 .add("format_version", calibration_version)
                                 .add("manifest_sha256", calibration.manifest_sha256)
                                 .add("photographs", calibration.photographs)
                                 .add("truth", calibration.truth)
                                 .add("samples", calibration.samples)
                                 .add("coverage", calibration.coverage)
                                 .add("canary", calibration.canary)
                                 .add("sha256", std::string())
                                 .text();
    return sha256_of(std::string_view(text));
}

// Check format and version before the fields, because another version may have other fields.
void check_calibration_format(const Json& contents, const fs::path& path) {
    const auto found = [&](const char* name) { return contents.is_object() ? contents.value(name, Json()) : Json(); };
    if (found("format") == calibration_format && found("format_version") == calibration_version) return;
    wrong(path.string() + ": expected format '" + calibration_format + "' version " +
          std::to_string(calibration_version) + "; got another format or version");
}

Calibration parse_calibration(const fs::path& path) {
    const Json contents = parse_json(read_text(path, calibration_bytes), path);
    check_calibration_format(contents, path);
    const std::string where = path.string() + ": $";
    Fields fields(contents, where);
    fields.text("format");
    fields.integer("format_version");
    Calibration found{fields.text("manifest_sha256"),
                      as_positive_count(fields["photographs"], fields.place("photographs")),
                      read_typicality_model(fields["truth"], fields.place("truth")),
                      fields.list("samples", read_typicality_model),
                      fields.list("coverage", read_coverage),
                      read_canary(fields["canary"], fields.place("canary"))};
    const std::string sha256 = fields.text("sha256");
    fields.refuse_unknown();
    check_calibration(found, contents, where);
    if (checksum_of(found) != sha256) wrong(path.string() + " is damaged: its contents do not match its own hash");
    return found;
}

}  // namespace

const TypicalityModel& Calibration::of_samples(double temperature) const {
    std::string known;
    for (const TypicalityModel& typicality_model : samples) {
        if (std::abs(*typicality_model.temperature - temperature) < same_temperature) return typicality_model;
        known += (known.empty() ? "" : ", ") + Json(*typicality_model.temperature).dump();
    }
    throw InputError("typicality: the bundle is calibrated for the temperatures " + known + "; got " +
                     Json(temperature).dump() + ": use one of them, or run caflow calibrate with this temperature");
}

std::optional<Calibration> read_calibration(const fs::path& folder, const Model& model) {
    const fs::path path = folder / calibration_name;
    std::error_code failed;
    if (!fs::is_regular_file(path, failed)) return std::nullopt;
    Calibration found;
    try {
        found = parse_calibration(path);
    } catch (const BundleError& error) {
        if (error.kind == BundleError::Kind::WrongCalibration) throw;
        wrong(error.what());
    }
    if (found.manifest_sha256 != sha256_of(folder / "manifest.json")) {
        wrong(path.string() + " belongs to another bundle: it was made for a different manifest.json");
    }
    std::size_t measures = std::size_t(model.levels);
    for (const auto& blocks : model.noise_channels) measures += statistics_of_a_block * blocks.size();
    const ImageKind& kind = *found.truth.kinds()[0];
    if (kind.levels() == std::size_t(model.levels) && kind.measures() == measures) return found;
    wrong(path.string() + ": expected " + std::to_string(model.levels) + " levels and " + std::to_string(measures) +
          " measures of true images, as in the model; got " + std::to_string(kind.levels()) + " and " +
          std::to_string(kind.measures()));
}

}  // namespace caflow::runtime
