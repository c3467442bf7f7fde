#include "typicality_records.hpp"

#include <algorithm>
#include <cmath>

#include "fields.hpp"
#include "line_checksum.hpp"

namespace caflow::runtime {

namespace {

constexpr std::int64_t most_count = (std::int64_t{1} << 31) - 1;
constexpr double most_number = 1e30;  // products of several such numbers are finite
constexpr double most_covariate = 64, smallest_scale = 1e-6;
constexpr double most_log_spread = 100;  // within `lowest` … `highest`; observed values are below 10
constexpr std::int64_t many_quantiles = 1001, few_quantiles = 201;
constexpr double rounding = 1e-6;  // relative rounding error that is accepted in an inverse covariance

double as_covariate(const Json& value, const std::string& where) {
    return Fields::as_number(value, where, 0, most_covariate);
}

double as_scale(const Json& value, const std::string& where) {
    return Fields::as_number(value, where, smallest_scale, most_covariate);
}

using ReadNumber = double (*)(const Json&, const std::string&);

// Read an array of `count` numbers.
Numbers numbers(const Json& value, const std::string& where, ReadNumber read, std::size_t count) {
    Numbers found = Fields::list_of(value, where, read);
    if (found.size() != count) Fields::refuse(std::to_string(count) + " numbers", value, where);
    return found;
}

std::vector<Numbers> rows_of(Fields& fields, const char* name, std::size_t count) {
    return fields.list(
        name, [&](const Json& row, const std::string& where) { return numbers(row, where, as_usual_number, count); });
}

// Read evenly spaced quantiles of `images` values: one per value, but at most `most`, and increasing.
Numbers quantiles(const Json& value, const std::string& where, std::int64_t images, std::int64_t most,
                  ReadNumber read = as_usual_number) {
    const auto count = std::size_t(std::min(most, images));
    Numbers found = numbers(value, where, read, count);
    if (count < 2 || !std::is_sorted(found.begin(), found.end())) {
        Fields::refuse("at least two increasing quantiles", value, where);
    }
    return found;
}

std::vector<Numbers> quantiles_of_levels(Fields& fields, const char* name, std::int64_t images) {
    return fields.list(name, [&](const Json& level, const std::string& where) {
        return quantiles(level, where, images, few_quantiles);
    });
}

Group read_group(const Json& value, const std::string& where) {
    Fields fields(value, where);
    const auto between = [&](const char* name) { return numbers(fields[name], fields.place(name), as_covariate, 2); };
    Group group{fields.text("name"),
                between("sizes"),
                between("complexities"),
                as_positive_count(fields["images"], fields.place("images")),
                {}};
    if (group.sizes[0] >= group.sizes[1] || group.complexities[0] >= group.complexities[1]) {
        Fields::refuse("increasing bounds of sizes and complexities", value, where);
    }
    group.distances =
        quantiles(fields["distances"], fields.place("distances"), group.images, many_quantiles, as_positive);
    fields.refuse_unknown();
    return group;
}

// Whether a matrix is an inverse covariance: symmetric, with a positive diagonal, and positive semidefinite. The last
// is checked by a Cholesky decomposition, with the accepted rounding error added to the diagonal.
bool is_precision(const std::vector<Numbers>& matrix) {
    const std::size_t count = matrix.size();
    double largest = 0;
    for (const Numbers& row : matrix) {
        for (const double value : row) largest = std::max(largest, std::abs(value));
    }
    const double error = rounding * largest;
    std::vector<Numbers> root(count, Numbers(count, 0.0));
    for (std::size_t i = 0; i < count; ++i) {
        if (!(matrix[i][i] > 0)) return false;
        for (std::size_t j = 0; j <= i; ++j) {
            if (std::abs(matrix[i][j] - matrix[j][i]) > error) return false;
            double left = matrix[i][j] + (i == j ? error : 0);
            for (std::size_t k = 0; k < j; ++k) left -= root[i][k] * root[j][k];
            if (i == j && !(left > 0)) return false;
            root[i][j] = i == j ? std::sqrt(left) : left / root[j][j];
        }
    }
    return true;
}

// Whether every standard deviation within `lowest` … `highest` is neither too large nor too small to divide by.
bool has_usable_spreads(const ImageKind& kind) {
    return std::all_of(kind.log_spread.begin(), kind.log_spread.end(), [&](const Numbers& spread) {
        double largest = std::abs(spread[0]), bound = 0;
        for (std::size_t k = 0; k < covariate_count; ++k) {
            const double low = std::abs(kind.lowest[k] - kind.centre[k]);
            const double high = std::abs(kind.highest[k] - kind.centre[k]);
            bound = std::max(low, high) / kind.scale[k];
            largest += std::abs(spread[k + 1]) * bound;
        }
        largest += std::abs(spread[covariate_count + 1]) * bound * bound;  // the square of the size
        return largest <= most_log_spread;
    });
}

// Check that the parts of a kind fit together.
void check_kind(const ImageKind& kind, const Json& value, const std::string& where) {
    const auto check = [&](bool holds, const std::string& wanted) {
        if (!holds) Fields::refuse(wanted, value, where);
    };
    for (std::size_t k = 0; k < covariate_count; ++k) check(kind.lowest[k] <= kind.highest[k], "lowest up to highest");
    const std::size_t measures = kind.measures();
    check(measures > 0 && kind.log_spread.size() == measures, "mean and log_spread to have the same measures");
    check(has_usable_spreads(kind), "log_spread to give logarithms within ±100");
    check(kind.precision.size() == measures && is_precision(kind.precision),
          "precision to be an inverse covariance matrix of all measures");
    const std::size_t levels = kind.levels();
    check(levels > 0 && levels <= measures && kind.bits_per_dim_per_level.size() == levels,
          "residuals and bits_per_dim_per_level to have the same number of levels, at most that of measures");
    std::int64_t images = 0;
    for (const Group& group : kind.groups) images += group.images;
    check(images == kind.images, "groups to have " + std::to_string(kind.images) + " images in total");
}

ImageKind read_kind(const Json& value, const std::string& where) {
    Fields fields(value, where);
    const auto of_covariates = [&](const char* name, ReadNumber read) {
        return numbers(fields[name], fields.place(name), read, covariate_count);
    };
    ImageKind kind;
    kind.lowest = of_covariates("lowest", as_covariate);
    kind.highest = of_covariates("highest", as_covariate);
    kind.centre = of_covariates("centre", as_covariate);
    kind.scale = of_covariates("scale", as_scale);
    kind.mean = rows_of(fields, "mean", basis_count);
    kind.log_spread = rows_of(fields, "log_spread", spread_count);
    kind.images = as_positive_count(fields["images"], fields.place("images"));
    kind.precision = rows_of(fields, "precision", kind.measures());
    kind.groups = fields.list("groups", read_group);
    kind.residuals = quantiles_of_levels(fields, "residuals", kind.images);
    kind.bits_per_dim = quantiles(fields["bits_per_dim"], fields.place("bits_per_dim"), kind.images, many_quantiles);
    kind.bits_per_dim_per_level = quantiles_of_levels(fields, "bits_per_dim_per_level", kind.images);
    fields.refuse_unknown();
    check_kind(kind, value, where);
    return kind;
}

}  // namespace

static std::string as_json(const Group& group) {
    return JsonObject()
        .add("name", group.name)
        .add("sizes", group.sizes)
        .add("complexities", group.complexities)
        .add("images", group.images)
        .add("distances", group.distances)
        .text();
}

static std::string as_json(const ImageKind& kind) {
    return JsonObject()
        .add("lowest", kind.lowest)
        .add("highest", kind.highest)
        .add("centre", kind.centre)
        .add("scale", kind.scale)
        .add("mean", kind.mean)
        .add("log_spread", kind.log_spread)
        .add("images", kind.images)
        .add("precision", kind.precision)
        .add("groups", kind.groups)
        .add("residuals", kind.residuals)
        .add("bits_per_dim", kind.bits_per_dim)
        .add("bits_per_dim_per_level", kind.bits_per_dim_per_level)
        .text();
}

std::string as_json(const TypicalityModel& typicality_model) {
    return JsonObject()
        .add("temperature", typicality_model.temperature)
        .add("coloured", typicality_model.coloured)
        .add("grey", typicality_model.grey)
        .text();
}

double as_usual_number(const Json& value, const std::string& where) {
    return Fields::as_number(value, where, -most_number, most_number);
}

double as_positive(const Json& value, const std::string& where) {
    return Fields::as_number(value, where, 0, most_number);
}

std::int64_t as_positive_count(const Json& value, const std::string& where) {
    return Fields::as_integer(value, where, 1, most_count);
}

TypicalityModel read_typicality_model(const Json& value, const std::string& where) {
    Fields fields(value, where);
    TypicalityModel typicality_model;
    const Json& temperature = fields["temperature"];
    if (!temperature.is_null()) typicality_model.temperature = as_positive(temperature, fields.place("temperature"));
    const auto kind = [&](const char* name) {
        const Json& found = fields[name];
        return found.is_null() ? std::nullopt : std::optional(read_kind(found, fields.place(name)));
    };
    typicality_model.coloured = kind("coloured");
    typicality_model.grey = kind("grey");
    fields.refuse_unknown();
    const std::vector<const ImageKind*> kinds = typicality_model.kinds();
    const auto is_alike = [&](const ImageKind* one) {
        return one->levels() == kinds[0]->levels() && one->measures() == kinds[0]->measures();
    };
    if (kinds.empty() || !std::all_of(kinds.begin(), kinds.end(), is_alike)) {
        Fields::refuse("at least one kind of images, and the same levels and measures for all kinds", value, where);
    }
    return typicality_model;
}

const Group* ImageKind::group_of(double size, double complexity) const {
    const auto found =
        std::find_if(groups.begin(), groups.end(), [&](const Group& group) { return group.holds(size, complexity); });
    return found == groups.end() ? nullptr : &*found;
}

std::vector<const ImageKind*> TypicalityModel::kinds() const {
    std::vector<const ImageKind*> known;
    for (const auto* kind : {&coloured, &grey}) {
        if (*kind) known.push_back(&**kind);
    }
    return known;
}

std::int64_t TypicalityModel::images() const {
    std::int64_t count = 0;
    for (const ImageKind* kind : kinds()) count += kind->images;
    return count;
}

double TypicalityModel::smallest() const {
    std::int64_t fewest = most_count;
    for (const ImageKind* kind : kinds()) {
        for (const Group& group : kind->groups) fewest = std::min(fewest, group.images);
    }
    return 1 / (double(fewest) + 1);
}

}  // namespace caflow::runtime
