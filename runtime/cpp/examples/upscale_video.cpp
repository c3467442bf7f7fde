// Enlarges a video frame by frame, without flicker.
//     upscale_video BUNDLE SMALL.avi LARGE.avi [N]
//
// All frames of a scene have the same noise, so static content does not flicker. The best of N samples is chosen on the
// first frame of each scene and used for the whole scene, so the picture does not switch between samples. The result
// has no sound; use `caflow video` to keep it.
#include <iostream>
#include <opencv2/imgproc.hpp>
#include <opencv2/videoio.hpp>

#include "arguments.hpp"

namespace {

cv::VideoWriter open_writer(const std::string& path, double frames_per_second, cv::Size size) {
    cv::VideoWriter writer(path, cv::VideoWriter::fourcc('M', 'J', 'P', 'G'), frames_per_second, size);
    if (!writer.isOpened()) {
        throw std::runtime_error(path + ": OpenCV cannot write this video: use a file name that ends in .avi");
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
    if (!capture.isOpened()) throw std::runtime_error(std::string(arguments[2]) + ": OpenCV cannot read this video");
    const caflow::Model model = open_model(arguments[1]);
    caflow::DrawOptions options;
    if (count > 4) options.n = samples_of(arguments[4]);

    caflow::Stream stream = model.open_stream(options);
    cv::VideoWriter writer;
    int frames = 0, scenes = 0;
    for (cv::Mat frame; capture.read(frame); ++frames) {
        cv::cvtColor(frame, frame, cv::COLOR_BGR2RGB);
        const caflow::Results drawn = stream.draw(caflow::view(frame));
        scenes += drawn[0].starts_scene();
        cv::cvtColor(caflow::mat(drawn[0]), frame, cv::COLOR_RGB2BGR);
        if (!writer.isOpened()) writer = open_writer(arguments[3], capture.get(cv::CAP_PROP_FPS), frame.size());
        writer.write(frame);
    }
    if (!frames) throw std::runtime_error(std::string(arguments[2]) + ": the video has no frame that OpenCV can read");
    std::cout << frames << " frames of " << scenes << (scenes == 1 ? " scene\n" : " scenes\n");
} catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
}
