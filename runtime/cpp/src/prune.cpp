#include "prune.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace caflow::runtime {

namespace {

using RowLikelihoods = std::vector<double>;

// Return the log-likelihood of each item over the levels so far. A value that is not finite becomes −∞, the worst one.
RowLikelihoods so_far(const Run& units, const std::vector<std::int64_t>& owner, const Maps& maps) {
    RowLikelihoods total(owner.size(), 0.0);
    for (const auto& level : maps) {
        for (const Array& map : level) {
            for (std::size_t item = 0; item < owner.size(); ++item) {
                const Tile& window = *units[std::size_t(owner[item])].window;
                total[item] += weighted_sum(window, map_of(map, item, owner.size(), window));
            }
        }
    }
    for (double& nats : total) {
        if (!std::isfinite(nats)) nats = -std::numeric_limits<double>::infinity();
    }
    return total;
}

// Return the `count` most likely items of a unit, in increasing order of their indices.
std::vector<std::size_t> likeliest(const RowLikelihoods& likelihood, const std::vector<std::int64_t>& owner,
                                   std::int64_t unit, std::size_t count) {
    std::vector<std::size_t> items;
    for (std::size_t item = 0; item < owner.size(); ++item) {
        if (owner[item] == unit) items.push_back(item);
    }
    const auto better = [&](std::size_t a, std::size_t b) { return likelihood[a] > likelihood[b]; };
    std::stable_sort(items.begin(), items.end(), better);
    items.resize(std::min(items.size(), count));
    std::sort(items.begin(), items.end());
    return items;
}

}  // namespace

Prune prune_to(const Run& units, const std::vector<std::uint32_t>& keep) {
    return [&units, keep, owner = owners(units)](std::size_t j, const Maps& maps) mutable -> Kept {
        if (keep[j + 1] == keep[j]) return std::nullopt;
        const RowLikelihoods likelihood = so_far(units, owner, maps);
        std::vector<std::size_t> kept;
        std::vector<std::int64_t> kept_owner;
        for (std::int64_t unit = 0; unit < std::int64_t(units.size()); ++unit) {
            const std::vector<std::size_t> items = likeliest(likelihood, owner, unit, keep[j + 1]);
            kept.insert(kept.end(), items.begin(), items.end());
            kept_owner.insert(kept_owner.end(), items.size(), unit);
        }
        owner = kept_owner;
        return kept;
    };
}

}  // namespace caflow::runtime
