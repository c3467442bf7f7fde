// A video, frame by frame, steady in time:  upscale_video BUNDLE SMALL.avi LARGE.avi [N]
//
// The noise of all frames is the same, so what does not move does not flicker. The best of N is chosen on the first
// frame and its sample kept, so the picture does not jump from one to another. (`caflow video` does scene cuts and
// sound.)
#include <iostream>
#include <opencv2/imgproc.hpp>
#include <opencv2/videoio.hpp>

#include "arguments.hpp"  // with caflow.hpp after OpenCV's, for cv::Mat

namespace {

cv::VideoWriter open_writer(const std::string& path, double frames_per_second, cv::Size size) {
    cv::VideoWriter writer(path, cv::VideoWriter::fourcc('M', 'J', 'P', 'G'), frames_per_second, size);
    if (!writer.isOpened()) {
        throw std::runtime_error(path + ": OpenCV cannot write it; wanted a name that ends in .avi");
    }
    return writer;
}

}  // namespace

int main(int count, char** arguments) try {
    if (count < 4 || count > 5) {
        std::cerr << "usage: upscale_video BUNDLE SMALL.avi LARGE.avi [N]\n";
        return 2;
    }
    cv::VideoCapture capture(arguments[2]);
    if (!capture.isOpened()) throw std::runtime_error(std::string(arguments[2]) + ": not a video that OpenCV reads");
    const caflow::Model model = open_model(arguments[1]);
    caflow::DrawOptions options;
    if (count > 4) options.samples = samples_of(arguments[4]);

    cv::VideoWriter writer;
    int frames = 0;
    for (cv::Mat frame; capture.read(frame); ++frames) {
        cv::cvtColor(frame, frame, cv::COLOR_BGR2RGB);
        const caflow::Results best = model.best_of(caflow::view(frame), options);
        options.samples = 1;
        options.first_sample = best[0].sample();
        cv::cvtColor(caflow::mat(best[0]), frame, cv::COLOR_RGB2BGR);
        if (!writer.isOpened()) writer = open_writer(arguments[3], capture.get(cv::CAP_PROP_FPS), frame.size());
        writer.write(frame);
    }
    if (!frames) throw std::runtime_error(std::string(arguments[2]) + ": wanted a video, got no frame of it");
    std::cout << frames << " frames of sample " << options.first_sample << "\n";
} catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
}
