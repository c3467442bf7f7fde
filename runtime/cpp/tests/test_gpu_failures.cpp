// Tests of failures: each call of CUDA and TensorRT fails once, chosen by its number; or all calls from one on fail, as
// if the GPU was lost.
//
// The fakes fail at the call itself, as documented. Real drivers may behave differently after a failure.
#include <doctest/doctest.h>

#include <optional>

#include "on_fakes.hpp"

using namespace on_fakes;

namespace {

const Picture picture(4, 4, 0);

struct Scenario {
    std::optional<caflow::Model> model;
    std::vector<caflow::Results> results;

    // A chain that is called three times is run, recorded and replayed. The score runs the other graphs.
    void run() {
        if (!model) model = open_model();
        for (std::uint32_t seed = 0; seed < 3; ++seed) results.push_back(model->best_of(picture.view(), draw(1, seed)));
        results.push_back(model->score(results[0][0].view(), picture.view()));
    }
};

const std::vector<caflow::Results>& expected() {
    static Scenario scenario;
    if (!scenario.model) {
        scenario.model = open_model("cpu");
        scenario.run();
    }
    return scenario.results;
}

void check_same(const std::vector<caflow::Results>& ours) {
    REQUIRE(ours.size() == expected().size());
    for (std::size_t k = 0; k < ours.size(); ++k) on_fakes::check_same(ours[k], expected()[k]);
}

std::size_t calls_of_scenario() {
    fake::fail_none();
    Scenario().run();
    return fake::calls();
}

// Run the scenario and return the message of its exception, or "" if nothing is thrown. Check that the message contains
// the reason from the fakes, or says that memory ran out for the smallest tile.
std::string message_of(Scenario& scenario) {
    try {
        scenario.run();
        return "";
    } catch (const caflow::Error& error) {
        const std::string message = error.what();
        const bool ran_out = dynamic_cast<const caflow::OutOfMemory*>(&error);
        CHECK_MESSAGE((ran_out || dynamic_cast<const caflow::BackendError*>(&error)), message);
        const bool says_why = message.find("fake ") != std::string::npos ||
                              (ran_out && message.find("does not allow tiles") != std::string::npos);
        CHECK_MESSAGE(says_why, message);
        return message;
    }
}

}  // namespace

TEST_SUITE_BEGIN("gpu_failures");

TEST_CASE("a failed call is an error or makes no difference, and the next attempt succeeds") {
    const Clean clean;
    const std::size_t calls = calls_of_scenario();
    std::size_t thrown = 0;
    for (std::size_t number = 1; number <= calls; ++number) {
        Scenario scenario;
        fake::fail_call(number);
        const std::string message = message_of(scenario);
        INFO("call ", number, " of ", calls, ": ", message);
        if (!message.empty()) {
            ++thrown;
            scenario.results.clear();
            scenario.run();
        }
        check_same(scenario.results);
        scenario.model.reset();
        const std::string failed = fake::failed_call();
        INFO(failed);
        CHECK_FALSE(failed.empty());
        Clean::check();
    }
    CHECK(thrown > calls / 4);
}

TEST_CASE("a lost GPU is an error, and everything is freed") {
    const Clean clean;
    const std::size_t calls = calls_of_scenario();
    for (std::size_t number = 1; number <= calls; number += 10) {
        Scenario scenario;
        fake::fail_all_from(number);
        const std::string message = message_of(scenario);
        INFO("from call ", number, " of ", calls, " on: ", message);
        if (message.empty()) check_same(scenario.results);  // only calls at the very end failed
        scenario.model.reset();
        Clean::check();
    }
}

TEST_SUITE_END();
