#include "prune.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace caflow::runtime {

namespace {

using RowLikelihoods = std::vector<double>;

// Return the log-likelihood of each row over the levels so far. A value that is not finite becomes −∞, the worst one.
RowLikelihoods so_far(const Run& units, const std::vector<std::int64_t>& owner, const Maps& maps) {
    RowLikelihoods total(owner.size(), 0.0);
    for (const auto& level : maps) {
        for (const Array& map : level) {
            for (std::size_t row = 0; row < owner.size(); ++row) {
                const Tile& window = *units[std::size_t(owner[row])].window;
                total[row] += weighted_sum(window, map_of(map, row, owner.size(), window));
            }
        }
    }
    for (double& nats : total) {
        if (!std::isfinite(nats)) nats = -std::numeric_limits<double>::infinity();
    }
    return total;
}

// Return the `count` most likely rows of a unit, in increasing order of their indices.
std::vector<std::size_t> likeliest(const RowLikelihoods& likelihood, const std::vector<std::int64_t>& owner,
                                   std::int64_t unit, std::size_t count) {
    std::vector<std::size_t> rows;
    for (std::size_t row = 0; row < owner.size(); ++row) {
        if (owner[row] == unit) rows.push_back(row);
    }
    const auto better = [&](std::size_t a, std::size_t b) { return likelihood[a] > likelihood[b]; };
    std::stable_sort(rows.begin(), rows.end(), better);
    rows.resize(std::min(rows.size(), count));
    std::sort(rows.begin(), rows.end());
    return rows;
}

}  // namespace

Prune prune_to(const Run& units, const std::vector<std::uint32_t>& keep) {
    return [&units, keep, owner = owners(units)](std::size_t j, const Maps& maps) mutable -> Kept {
        if (keep[j + 1] == keep[j]) return std::nullopt;
        const RowLikelihoods likelihood = so_far(units, owner, maps);
        std::vector<std::size_t> kept;
        std::vector<std::int64_t> kept_owner;
        for (std::int64_t unit = 0; unit < std::int64_t(units.size()); ++unit) {
            const std::vector<std::size_t> rows = likeliest(likelihood, owner, unit, keep[j + 1]);
            kept.insert(kept.end(), rows.begin(), rows.end());
            kept_owner.insert(kept_owner.end(), rows.size(), unit);
        }
        owner = kept_owner;
        return kept;
    };
}

}  // namespace caflow::runtime
