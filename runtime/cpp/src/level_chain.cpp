#include "level_chain.hpp"

#include <numeric>

#include "errors.hpp"

namespace caflow::runtime {

namespace {

std::string named(const char* graph, std::size_t level) { return graph + ("_" + std::to_string(level)); }

// Return the outputs of `encode` for one level, by the names that the level's graphs use for their inputs.
Arrays terms(const Arrays& encoded, std::size_t level) {
    const std::string suffix = "_" + std::to_string(level);
    Arrays named;
    for (const auto& [name, array] : encoded) {
        if (name.ends_with(suffix)) named[name.substr(0, name.size() - suffix.size())] = array;
    }
    return named;
}

Array find(const Arrays& arrays, const char* name) {
    const auto found = arrays.find(name);
    return found == arrays.end() ? nullptr : found->second;
}

void give(Arrays& arrays, const char* name, const Array& array) {
    if (array) arrays[name] = array;
}

std::vector<std::size_t> all_items(const Array& image) {
    std::vector<std::size_t> items(std::size_t(image->shape[0]));
    std::iota(items.begin(), items.end(), 0);
    return items;
}

}  // namespace

Array needed(const Arrays& arrays, const char* name) {
    if (const Array array = find(arrays, name)) return array;
    throw BackendError(std::string("a graph has no output '") + name + "': export the model again");
}

Arrays encode(const Graphs& graphs, const Array& condition, Array degradation) {
    if (!graphs.has("estimate")) return graphs.run("encode", {{"condition", condition}});
    if (!degradation) degradation = needed(graphs.run("estimate", {{"condition", condition}}), "degradation");
    return graphs.run("encode", {{"condition", condition}, {"degradation", degradation}});
}

ScanResult sample(const Graphs& graphs, const Arrays& encoded, Array image, std::vector<Array> noise,
                  const Prune& prune) {
    const std::size_t levels = noise.size();
    ScanResult items;
    items.kept = all_items(image);
    Array passing, carry;
    for (std::size_t j = 0; j < levels; ++j) {
        const bool finest = j == levels - 1;
        // ScanResult are dropped in host memory.
        const NoiseWindow place = prune && !finest ? NoiseWindow::host : NoiseWindow::device;
        Arrays to_decode = terms(encoded, j);
        give(to_decode, "z", noise[j]);
        give(to_decode, "passing", passing);
        give(to_decode, "image", image);
        const Arrays decoded = graphs.run(named("decode", j), to_decode, place);
        Arrays to_reverse{{"latent", needed(decoded, "latent")}};
        give(to_reverse, "carry", carry);
        if (finest) {
            give(to_reverse, "prepared", find(encoded, "prepared"));
            give(to_reverse, "mean", find(encoded, "mean"));
            give(to_reverse, "image", image);
        }
        const Arrays reversed = graphs.run(named("reverse", j), to_reverse, place);
        passing = find(decoded, "next_passing");
        carry = find(reversed, "next_carry");
        items.pixels = find(reversed, "pixels");
        items.maps.push_back({needed(decoded, "log_likelihood_map"), needed(reversed, "log_likelihood_map")});
        const Kept kept = prune && !finest ? prune(j, items.maps) : std::nullopt;
        if (!kept) continue;
        std::vector<std::size_t> left;
        for (const std::size_t item : *kept) left.push_back(items.kept[item]);
        items.kept = left;
        image = take(image, *kept);
        if (carry) carry = take(carry, *kept);
        if (passing) passing = take(passing, *kept);
        for (std::size_t finer = j + 1; finer < levels; ++finer) noise[finer] = take(noise[finer], *kept);
        for (auto& level : items.maps) {
            for (Array& map : level) map = take(map, *kept);
        }
    }
    return items;
}

ScanResult score(const Graphs& graphs, const Arrays& encoded, const Array& image, const Array& pixels) {
    const std::size_t levels = std::size_t(graphs.manifest().model.levels);
    ScanResult items{pixels, Maps(levels), all_items(image), std::vector<Array>(levels)};
    std::vector<Array> latents(levels);
    Array carry, passing;
    for (std::size_t j = levels; j-- > 0;) {
        Arrays to_forward;
        give(to_forward, "carry", carry);
        if (j == levels - 1) {
            to_forward = {{"pixels", pixels}, {"image", image}};
            give(to_forward, "prepared", find(encoded, "prepared"));
            give(to_forward, "mean", find(encoded, "mean"));
        }
        const Arrays out = graphs.run(named("forward", j), to_forward);
        latents[j] = needed(out, "latent");
        carry = find(out, "next_carry");
        items.maps[j].push_back(needed(out, "log_likelihood_map"));
    }
    for (std::size_t j = levels; j-- > 0;) {
        Arrays to_likelihood = terms(encoded, j);
        give(to_likelihood, "latent", latents[j]);
        give(to_likelihood, "passing", passing);
        give(to_likelihood, "image", image);
        const Arrays out = graphs.run(named("likelihood", j), to_likelihood);
        passing = find(out, "next_passing");
        items.latents[j] = needed(out, "z");
        items.maps[j].push_back(needed(out, "log_likelihood_map"));
    }
    return items;
}

Map map_of(const Array& map, std::size_t item, std::size_t items, const Tile& window) {
    const Shape& shape = map->shape;
    const auto fits = [](std::int64_t side, std::int64_t count) { return count > 0 && side % count == 0; };
    if (shape.size() != 3 || shape[0] != std::int64_t(items) || !fits(window.y.length(), shape[1]) ||
        window.y.length() / shape[1] * shape[2] != window.x.length()) {
        throw BundleError(BundleError::Kind::WrongShape, "the bundle",
                          "log-likelihood maps must have square cells and fit targets of " +
                              std::to_string(window.x.length()) + "×" + std::to_string(window.y.length()) +
                              " pixels; got other maps: export the model again");
    }
    const auto size = std::size_t(shape[1] * shape[2]);
    return {shape[1], shape[2], floats_of(map).subspan(item * size, size)};
}

Latents latents_of(const Array& z, std::size_t item, std::size_t items, const Tile& window) {
    const Shape& shape = z->shape;
    const std::int64_t cell = shape.size() == 4 && shape[2] > 0 ? window.y.length() / shape[2] : 0;
    if (!cell || shape[0] != std::int64_t(items) || cell * shape[2] != window.y.length() ||
        cell * shape[3] != window.x.length()) {
        throw BackendError("a graph's latents do not have the shape of its input items: export the model again");
    }
    const auto size = std::size_t(shape[1] * shape[2] * shape[3]);
    return {shape[1], shape[2], shape[3], floats_of(z).subspan(item * size, size)};
}

std::span<const float> pixels_of(const Array& pixels, std::size_t item, std::size_t items, const Tile& window) {
    if (!pixels || pixels->shape != Shape{std::int64_t(items), window.y.length(), window.x.length(), 3}) {
        throw BackendError("a graph's pixels do not have the shape of its input items: export the model again");
    }
    const auto size = std::size_t(window.pixels() * 3);
    return floats_of(pixels).subspan(item * size, size);
}

}  // namespace caflow::runtime
