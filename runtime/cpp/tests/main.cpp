#define DOCTEST_CONFIG_IMPLEMENT
#include <clocale>
#include <doctest/doctest.h>

int main(int count, char** arguments) {
    std::setlocale(LC_ALL, "");  // as graphical applications do
    return doctest::Context(count, arguments).run();
}
