// A filter: reads lines "TARGET CONDITION" of image files, and prints each with its log-likelihood as a line of JSON.
//     score_pairs BUNDLE < pairs.txt
#include <iomanip>
#include <iostream>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <sstream>

#include "arguments.hpp"  // with caflow.hpp after OpenCV's, for cv::Mat

namespace {

cv::Mat read_rgb(const std::string& path) {
    cv::Mat image = cv::imread(path);
    if (image.empty()) throw std::runtime_error(path + ": not an image that OpenCV reads");
    cv::cvtColor(image, image, cv::COLOR_BGR2RGB);
    return image;
}

std::string quoted(const std::string& text) {
    std::ostringstream json;
    json << '"';
    for (const char c : text) {
        if (static_cast<unsigned char>(c) < 0x20) {
            json << "\\u00" << std::hex << std::setw(2) << std::setfill('0') << int(c);
        } else {
            json << (c == '"' || c == '\\' ? "\\" : "") << c;
        }
    }
    json << '"';
    return json.str();
}

}  // namespace

int main(int count, char** arguments) try {
    if (count != 2) {
        std::cerr << "usage: score_pairs BUNDLE < LINES of TARGET CONDITION\n";
        return 2;
    }
    const caflow::Model model = open_model(arguments[1]);
    std::cout << std::setprecision(12);
    bool all_scored = true;
    for (std::string target, condition; std::cin >> target >> condition;) {
        std::cout << "{\"target\": " << quoted(target) << ", ";
        try {
            const cv::Mat large = read_rgb(target), small = read_rgb(condition);
            const caflow::Results scored = model.score(caflow::view(large), caflow::view(small));
            std::cout << "\"log_likelihood\": " << scored[0].log_likelihood()
                      << ", \"bits_per_dim\": " << scored[0].bits_per_dim() << "}" << std::endl;
        } catch (const std::exception& error) {
            std::cout << "\"error\": " << quoted(error.what()) << "}" << std::endl;
            all_scored = false;
        }
    }
    return all_scored ? 0 : 1;
} catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
}
